"""Stands in for a model server, so that an example runs without one: a function says what the model says."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeAlias

Reply: TypeAlias = Callable[[Sequence[Mapping[str, str]]], Mapping[str, object]]


def use(tool: str, arguments: Mapping[str, str]) -> Mapping[str, object]:
    """The reply that calls a tool."""
    function = {"name": tool, "arguments": json.dumps(arguments)}
    return {"tool_calls": [{"index": 0, "id": tool, "function": function}]}


def serve(reply: Reply) -> None:
    """Answer chat completions on port 8000, or that of the first argument, each as one event of a stream."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            choice = {"index": 0, "delta": reply(asked["messages"]), "finish_reason": "stop"}
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            self.wfile.write(f"data: {json.dumps({'choices': [choice]})}\n\ndata: [DONE]\n\n".encode())

    port = int(sys.argv[1]) if sys.argv[1:] else 8000
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print("listening", f"127.0.0.1:{server.server_port}", flush=True)  # noqa: T201
    server.serve_forever()
