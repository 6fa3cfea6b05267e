"""What is sent to Mistral models is what mistral-common takes, by its rules of today and by those of an older
release, with which some servers were built (SPARK_TEST_MISTRAL names where that is)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent_service.domain import JsonObject, Placement, Profile
from agent_service.model import wire
from tests.templates.transcripts import transcripts

RULES = Path(__file__).parents[1] / "servers" / "mistral_rules.py"
RELEASES = ["", *filter(None, [os.environ.get("SPARK_TEST_MISTRAL", "")])]

IN_TOOLS, ALONE, IN_TEXT = (
    Profile(Placement.TOOL),
    Profile(Placement.TOOL, calls_alone=True),
    Profile(Placement.TEXT),
)
# By version of the tokenizer: the older ones take no words beside a call, and think nothing.
SENT = {
    "v1": [IN_TEXT],
    "v2": [ALONE, IN_TEXT],
    "v3": [ALONE, IN_TEXT],
    "v7": [IN_TOOLS, ALONE, IN_TEXT],
    "v11": [IN_TOOLS, ALONE, IN_TEXT],
    "v13": [IN_TOOLS, ALONE, IN_TEXT],
}
THINKING = {"v11", "v13"}


def requests(profile: Profile, thinking: bool) -> list[JsonObject]:
    asked = [told.request(profile) for told in transcripts("mistral", 30)]
    if not thinking:
        for message in (message for one in asked for message in one.messages):
            message.pop("reasoning_content", None)
    return [wire.conversation("mistral", one) for one in asked]


def complaints(release: str, sent: dict[str, list[JsonObject]]) -> dict[str, str]:
    """Of each version of the tokenizer, about the first request that it refuses."""
    judged = subprocess.run(
        [sys.executable, str(RULES)],
        env={**os.environ, "PYTHONPATH": release},
        input=json.dumps(sent),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(judged.stdout)


@pytest.mark.parametrize("release", RELEASES)
def test_any_conversation_is_taken(release: str) -> None:
    sent = {
        version: [one for profile in profiles for one in requests(profile, version in THINKING)]
        for version, profiles in SENT.items()
    }
    assert complaints(release, sent) == dict.fromkeys(SENT, "")


@pytest.mark.parametrize("release", RELEASES)
def test_an_interrupt_in_its_place_as_a_system_message_is_not(release: str) -> None:
    said = complaints(release, {version: requests(Profile(Placement.SYSTEM), False) for version in SENT})
    assert all(said.values())
