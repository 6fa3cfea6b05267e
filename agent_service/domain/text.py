"""Text that is too long for its place."""


def cut(text: str, max_bytes: int) -> str:
    """What fits, with a word that says so if it is not all."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= max_bytes:
        return text
    kept = encoded[:max_bytes].decode(errors="ignore")
    return f"{kept}\n[cut here: {len(encoded)} bytes, of which {max_bytes} are shown]"
