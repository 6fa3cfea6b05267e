"""Pages of listings and streams: their size, and tokens that go on where a page ended.

A token is opaque to callers: a version, where the listing stands, and a digest over both and what is listed.
It works only for the same method with the same filters.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator
from typing import TypeVar

from google.protobuf.message import Message

from agent_service.domain import Json
from agent_service.rpc.convert.fields import invalid
from agent_service.rpc.convert.struct import canonical

DEFAULT_SIZE = 50
MAX_SIZE = 1000
MAX_BYTES = 1024 * 1024

_VERSION = b"\x01"
_CURSOR_BYTES = 16
_DIGEST_BYTES = 8

Item = TypeVar("Item", bound=Message)


def size(field: str, sent: int) -> int:
    """How many items a page may have. More than the most is taken down to it."""
    if sent < 0:
        raise invalid(field, "must not be negative")
    return min(sent or DEFAULT_SIZE, MAX_SIZE)


def cut(items: Iterable[Item], max_bytes: int = MAX_BYTES) -> Iterator[list[Item]]:
    """The items in order, in lists of no more bytes than that. One that is larger stands alone."""
    piece: list[Item] = []
    piece_bytes = 0
    for item in items:
        item_bytes = item.ByteSize()
        if piece and piece_bytes + item_bytes > max_bytes:
            yield piece
            piece, piece_bytes = [], 0
        piece.append(item)
        piece_bytes += item_bytes
    if piece:
        yield piece


def token(cursor: int, method: str, filters: Json) -> str:
    """A token for the page after the item that the cursor names, a number of 128 bits."""
    payload = _VERSION + cursor.to_bytes(_CURSOR_BYTES)
    return base64.urlsafe_b64encode(payload + _digest(payload, method, filters)).decode()


def cursor(field: str, token: str, method: str, filters: Json) -> int:
    """Where the listing goes on. Raises InvalidField for anything that `token` did not make for it."""
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
    except ValueError:
        raise invalid(field, "is not a token of this service") from None
    payload, digest = raw[:-_DIGEST_BYTES], raw[-_DIGEST_BYTES:]
    version, cursor = payload[:1], payload[1:]
    if version != _VERSION or len(cursor) != _CURSOR_BYTES or digest != _digest(payload, method, filters):
        raise invalid(field, "is not a token of this listing with these filters")
    return int.from_bytes(cursor)


def _digest(payload: bytes, method: str, filters: Json) -> bytes:
    listing = canonical([method, filters]).encode()
    return hashlib.sha256(payload + listing).digest()[:_DIGEST_BYTES]
