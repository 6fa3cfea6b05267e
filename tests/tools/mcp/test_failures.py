import httpx2
import pytest
from mcp import MCPError
from mcp.types import Tool
from pydantic import ValidationError

from agent_service.tools.mcp.failures import Broken, reason_of


def not_valid() -> ValidationError:
    with pytest.raises(ValidationError) as raised:
        Tool.model_validate({"name": "a secret"})
    return raised.value


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Broken("exited with code 1"), "exited with code 1"),
        (MCPError(-32601, "Method\nnot found"), "refused: Method not found"),
        (MCPError(-32601, "a" * 1000), "refused: " + "a" * 191),
        (
            FileNotFoundError(2, "No such file or directory", "/secret"),
            "cannot be started: No such file or directory",
        ),
        (httpx2.ConnectError("all attempts at secret:1 failed"), "cannot be reached"),
        (not_valid(), "answers with what is no valid message"),
        (TimeoutError(), "failed"),
        (KeyError("a secret"), "failed"),
    ],
)
def test_what_has_gone_wrong_is_told_in_words_for_people(error: Exception, text: str) -> None:
    assert reason_of(error).text == text
    assert reason_of(error).kind == type(error).__name__


def test_of_several_errors_the_one_that_was_foreseen_is_told() -> None:
    group = ExceptionGroup("", [KeyError("a"), ExceptionGroup("", [Broken("exited with code 1")])])
    assert reason_of(group).text == "exited with code 1"
    assert reason_of(ExceptionGroup("", [KeyError("a"), OSError()])).kind == "KeyError"


def test_a_secret_that_a_server_says_again_is_not_told() -> None:
    echo = MCPError(-32601, "no such key: Bearer abc123, abc123")
    assert reason_of(echo, ["Bearer abc123"]).text == "refused: no such key: Bearer [secret], [secret]"
