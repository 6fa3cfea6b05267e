"""An HTTP endpoint whose signed POSTs become notifications of one session. Signatures are those of Standard
Webhooks: HMAC-SHA256 over the id of the delivery, its time and the body."""

import argparse
import base64
import binascii
import hmac
import os
import sys
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from google.protobuf.json_format import Parse, ParseError
from google.protobuf.struct_pb2 import Struct
from grpc import StatusCode

from spark.agent.v1.interrupt_pb2 import Interrupt, Notification
from spark.gateway.v1.gateway_service_pb2 import PostInterruptRequest
from spark.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub

MAX_BODY_BYTES = 64 * 1024

_DEADLINE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    source: str
    session_id: str
    key: bytes
    gateway: GatewayServiceStub

    def receive(self, headers: Message, body: bytes) -> HTTPStatus:
        """Post a delivery. What is tried again has the same id, and is no second interrupt."""
        if not self._is_signed(headers, body):
            return HTTPStatus.UNAUTHORIZED
        try:
            event = Parse(body, Struct())
        except (ParseError, UnicodeDecodeError, RecursionError):
            return HTTPStatus.BAD_REQUEST
        notification = Notification(
            type=event.fields["type"].string_value, data=event.fields["data"].struct_value
        )
        interrupt = Interrupt(session_id=self.session_id, source=self.source, notification=notification)
        return self._post(PostInterruptRequest(interrupt=interrupt, request_id=headers["webhook-id"]))

    def _is_signed(self, headers: Message, body: bytes) -> bool:
        parts = (headers.get("webhook-id", ""), headers.get("webhook-timestamp", ""))
        signed = ".".join(parts).encode() + b"." + body
        expected = base64.b64encode(hmac.digest(self.key, signed, "sha256"))
        # Several, while a sender changes its secret.
        signatures = headers.get("webhook-signature", "").encode(errors="replace").split()
        return all(parts) and any(hmac.compare_digest(b"v1," + expected, one) for one in signatures)

    def _post(self, request: PostInterruptRequest) -> HTTPStatus:
        match self.gateway.PostInterrupt.future(request, timeout=_DEADLINE_SECONDS).code():
            case StatusCode.OK:
                return HTTPStatus.NO_CONTENT
            case StatusCode.UNAVAILABLE | StatusCode.DEADLINE_EXCEEDED | StatusCode.RESOURCE_EXHAUSTED:
                return HTTPStatus.SERVICE_UNAVAILABLE
            case _:
                return HTTPStatus.UNPROCESSABLE_ENTITY


def handler(endpoint: Endpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_POST(self) -> None:
            length = self.headers.get("content-length", "")
            if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
                status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            else:
                status = endpoint.receive(self.headers, self.rfile.read(int(length)))
            self.send_response(status)
            self.end_headers()

    return Handler


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.webhook", description=__doc__)
    parser.add_argument("name", help="who posts: the notifications come from webhook:NAME")
    parser.add_argument("session", help="the id of the session that is told")
    parser.add_argument("--port", type=int, default=8080, help="0 picks one")
    arguments = parser.parse_args()
    try:
        key = base64.b64decode(os.environ["WEBHOOK_SECRET"].removeprefix("whsec_"), validate=True)
    except (KeyError, binascii.Error):
        sys.exit("WEBHOOK_SECRET must hold the secret that the sender shows, whsec_ and base64")
    address = os.environ.get("SPARK_GATEWAY_ADDRESS", "127.0.0.1:50050")
    with grpc.insecure_channel(address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        endpoint = Endpoint(f"webhook:{arguments.name}", arguments.session, key, GatewayServiceStub(channel))
        server = ThreadingHTTPServer(("127.0.0.1", arguments.port), handler(endpoint))
        print("listening", f"127.0.0.1:{server.server_port}", flush=True)  # noqa: T201
        server.serve_forever()


if __name__ == "__main__":
    main()
