"""Pages of listings and streams: their size, and tokens that go on where a page ended.

A token is opaque to callers: a version, where the listing stands, and a digest over both and what is listed.
It works only for the same method with the same filters.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
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

Found = TypeVar("Found")
Item = TypeVar("Item", bound=Message)


class Listing:
    """A call for a page of a listing. The page is what comes after `after`, 0 at the beginning."""

    def __init__(
        self, method: str, filters: Json, page_size: int, page_token: str, last_place: int = 2**63 - 1
    ) -> None:
        """No item has a place after the last. Raises InvalidField."""
        self._method, self._filters = method, filters
        self._size = size("page_size", page_size)
        self.after = cursor("page_token", page_token, method, filters) if page_token else 0
        if self.after > last_place:
            raise invalid("page_token", "is not a token of this listing")

    @property
    def limit(self) -> int:
        """How many items to look for: one more than are shown tells whether there is a next page."""
        return self._size + 1

    def page(
        self, found: Sequence[Found], proto: Callable[[Found], Item], place: Callable[[Found], int]
    ) -> tuple[list[Item], str]:
        """What is shown of what was found, and the token of the next page, empty where there is none.

        The place of an item is the cursor for going on after it.
        """
        shown = next(cut(map(proto, found[: self._size])), [])
        if len(shown) == len(found):
            return shown, ""
        return shown, token(place(found[len(shown) - 1]), self._method, self._filters)


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
