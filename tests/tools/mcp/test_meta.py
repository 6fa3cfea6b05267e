"""What a server learns of a call beside its arguments."""

import pytest

from tests.tools.mcp.running import context, running, script


@pytest.mark.parametrize("share", [True, False])
async def test_a_server_learns_for_which_session_a_call_is_only_if_that_is_wanted(share: bool) -> None:
    asking = context()
    async with running(*script("doorman"), share_session_id=share) as one:
        outcome = await one.call("who", {}, asking)
    assert outcome.content == (str(asking.session_id) if share else "None")
