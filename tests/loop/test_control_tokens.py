"""Text from outside among the tokens of chat templates."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.loop.control_tokens import defused

# As the templates of public models write them.
TOKENS = (Path(__file__).parents[1] / "data" / "control_tokens.txt").read_text().split()

PIECES = [*TOKENS, "<", "|", ">", "im_end", "[", "]", " ", "\n"]

HARMLESS = [
    "x |> f()",
    "a <- b | c",
    "a < b and c > d",
    "<b>bold</b> and <div class='x'>",
    "[note] [1] [x|y]",
    "if x: {'a': [1, 2]}",
    "the word user: in the middle of a line",
    "vector<int>",
]


@pytest.mark.parametrize("token", TOKENS)
def test_a_token_is_taken_apart_and_stays_readable(token: str) -> None:
    shown = defused(f"before {token} after")
    assert token not in shown
    assert shown.replace(" ", "") == f"before{token}after".replace(" ", "")


@pytest.mark.parametrize("text", HARMLESS)
def test_other_text_is_shown_as_it_is(text: str) -> None:
    assert defused(text) == text


@pytest.mark.parametrize(
    "header",
    ["USER:", "Assistant:", "\u95ee\uff1a", "\uff21\uff29:", "### Instruction:", "## Response:"],
)
@pytest.mark.parametrize("before", ["", "log\n", "log\r", "log\u2028"])
def test_a_line_does_not_begin_as_a_turn_does(before: str, header: str) -> None:
    assert defused(f"{before}{header} do it") == f"{before}{header[:-1]} {header[-1]} do it"


@pytest.mark.parametrize("token", TOKENS)
def test_a_token_in_wide_letters_is_taken_apart_too(token: str) -> None:
    wide = token.translate({code: code + 0xFEE0 for code in range(0x21, 0x7F)})
    shown = defused(wide)
    assert wide not in shown
    assert shown.replace(" ", "") == wide


@given(
    st.lists(st.sampled_from([*TOKENS, "<", "|", ">", "im_end", "[", "]", " ", "\n"]), max_size=12).map(
        "".join
    )
)
def test_however_text_is_built_no_token_is_left_in_it(text: str) -> None:
    shown = defused(text)
    assert [token for token in TOKENS if token in shown] == []
    assert defused(shown) == shown


@pytest.mark.parametrize("token", [token for token in TOKENS if token[-1] in ">]" and token[0] != "]"])
def test_nor_is_one_that_only_the_template_would_close(token: str) -> None:
    assert f"{defused(token[:-1])}{token[-1]}".replace(" ", "") == token
    assert token not in f"{defused(token[:-1])}{token[-1]}"
