"""Plays an agent that looks things up on the web."""

import re
from collections.abc import Mapping, Sequence

from examples.stand_in import serve, use


def reply(messages: Sequence[Mapping[str, str]]) -> Mapping[str, object]:
    """Fetch the page that the newest message from outside names, then say what stands there of high water."""
    last = messages[-1]
    if last["role"] == "tool":
        found = re.search(r"High water [^.]*\.", last["content"])
        return {"content": found[0] if found else f"I could not find it. {last['content']}"}
    *_, url = (found[0] for message in messages if (found := re.search(r"http://\S+", message["content"])))
    return use("web_fetch", {"url": url})


if __name__ == "__main__":
    serve(reply)
