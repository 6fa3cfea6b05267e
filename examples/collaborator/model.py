"""Plays both agents. Like many a model it never lets the other one have the last word."""

from collections.abc import Mapping, Sequence

from examples.stand_in import serve, use


def reply(messages: Sequence[Mapping[str, str]]) -> Mapping[str, object]:
    """Tell the other one something whenever there is news, and then rest."""
    prompt, last = messages[0]["content"], messages[-1]
    if last["role"] == "tool":
        return {"content": last["content"]}
    heard = next(message["content"] for message in reversed(messages) if "<interrupt-" in message["content"])
    if "You are the lookout" in prompt:
        text = "A trawler, close in." if heard.count("?") else "You are welcome."
        return use("tell", {"session": "keeper", "text": text})
    text = "Thank you." if "[agent:" in heard else "What is off the north rocks?"
    return use("tell", {"session": "lookout", "text": text})


if __name__ == "__main__":
    serve(reply)
