import pytest

from agent_service.domain import ToolCall

ENDLESS = '{"a": ' + "[" * 100_000
HUGE = '{"a": ' + "1" * 5000 + "}"


def test_the_arguments_of_a_call_are_a_json_object() -> None:
    assert ToolCall("c", "now", ' {"a": [1.5, null], "a ": "\\u00e9"} ').arguments() == {
        "a": [1.5, None],
        "a ": "\N{LATIN SMALL LETTER E WITH ACUTE}",
    }


@pytest.mark.parametrize(
    "arguments_json", ["", "{", "{} {}", "[]", "null", '{"a": NaN}', '{"a": -Infinity}', ENDLESS, HUGE]
)
def test_everything_else_is_refused_in_words_for_the_model(arguments_json: str) -> None:
    with pytest.raises(ValueError, match=r"^The arguments are not ") as raised:
        ToolCall("c", "now", arguments_json).arguments()
    assert "sys." not in str(raised.value)
