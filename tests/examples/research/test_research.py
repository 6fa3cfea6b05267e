"""The example with the real services, the real mcp-server-fetch and its own page, which is served locally."""

import os
import sys
from pathlib import Path

import pytest

from tests.conftest import Postgres
from tests.e2e.client import ROOT, Client, programs
from tests.examples.scripted_agents import agents_of
from tests.servers.pages import page_server

TIDES = (ROOT / "examples" / "research" / "pages" / "tides.html").read_text()


async def test_the_agent_reads_the_page_that_it_is_told_and_answers_from_it(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a shell in which the environment of the project is active.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    async with (
        page_server({"/tides.html": TIDES}) as url,
        agents_of("research", postgres, Client(programs()[0]), tmp_path) as agents,
    ):
        session_id = await agents.create("researcher", "Answer questions from the web.", "web")
        await agents.post(session_id, f"When is high water? See {url}/tides.html")
        rows = await agents.until_said(session_id, "High water is at half past nine.")
    *_, call, response, _ = rows
    assert call.tool_call.name == "web_fetch"
    assert "Low water is at a quarter past three." in response.tool_response.content
