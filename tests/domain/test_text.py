import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.domain import cut


@given(st.text(), st.integers(0, 40))
def test_a_text_is_cut_between_characters_and_says_so_unless_it_fits(text: str, max_bytes: int) -> None:
    length = len(text.encode(errors="replace"))
    kept, _, said = cut(text, max_bytes).rpartition("\n")
    if length <= max_bytes:
        assert cut(text, max_bytes) == text
    else:
        assert text.encode(errors="replace").startswith(kept.encode())
        assert max_bytes - 4 < len(kept.encode()) <= max_bytes
        assert said == f"[cut here: {length} bytes, of which {max_bytes} are shown]"


@pytest.mark.parametrize("max_bytes", [3, 4, 5])
def test_a_character_is_never_cut_in_two(max_bytes: int) -> None:
    assert cut("aé€!", max_bytes).startswith("aé\n")
