"""Stands in for a model server, so that the example runs without one. Like many a model it never lets the
other one have the last word. `python examples/collaborator/model.py` listens on port 8000."""

import json
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ADDRESS = ("127.0.0.1", 8000)


def reply(messages: Sequence[Mapping[str, str]]) -> Mapping[str, object]:
    """Tell the other one something whenever there is news, and then rest."""
    prompt, last = messages[0]["content"], messages[-1]
    if last["role"] == "tool":
        return {"content": last["content"]}
    heard = next(message["content"] for message in reversed(messages) if "<interrupt-" in message["content"])
    if "You are the lookout" in prompt:
        other, text = "keeper", "A trawler, close in." if heard.count("?") else "You are welcome."
    else:
        other, text = "lookout", "Thank you." if "[agent:" in heard else "What is off the north rocks?"
    arguments = json.dumps({"session": other, "text": text})
    return {"tool_calls": [{"index": 0, "id": "tell", "function": {"name": "tell", "arguments": arguments}}]}


class Server(BaseHTTPRequestHandler):
    """Answers chat completions, each as one event of a stream."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        choice = {"index": 0, "delta": reply(asked["messages"]), "finish_reason": "stop"}
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.wfile.write(f"data: {json.dumps({'choices': [choice]})}\n\ndata: [DONE]\n\n".encode())


if __name__ == "__main__":
    ThreadingHTTPServer(ADDRESS, Server).serve_forever()
