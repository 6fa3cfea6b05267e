"""What a server learns of a call beside its arguments."""

from tests.tools.mcp.running import context, running, script


async def test_a_server_learns_for_which_session_a_call_is() -> None:
    asking = context()
    async with running(*script("doorman")) as one:
        outcome = await one.call("who", {}, asking)
    assert (outcome.content, outcome.is_error) == (str(asking.session_id), False)
