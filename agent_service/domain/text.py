"""Text that is too long for its place, or that cannot be kept."""

import re

# What PostgreSQL cannot store and UTF-8 cannot say.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(text: str) -> str:
    """The text with U+FFFD for what cannot be stored."""
    return _UNSTORABLE.sub("\ufffd", text)


def cut(text: str, max_bytes: int) -> str:
    """What fits, with a word that says so if it is not all."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= max_bytes:
        return text
    kept = encoded[:max_bytes].decode(errors="ignore")
    return f"{kept}\n[cut here: {len(encoded)} bytes, of which {max_bytes} are shown]"
