"""The chat templates that are tried: those of the tests, and those of real models from the directories that
SPARK_TEST_TEMPLATES names. The latter carry terms of their own and are no part of this project."""

import os
from pathlib import Path

from agent_service.domain import Placement, Profile
from agent_service.loop.probe import shows
from agent_service.loop.scenes import SCENES
from agent_service.model import ModelError
from tests.servers.chat_template import OWN, ChatTemplate, Dialect

TOOL, TEXT = Placement.TOOL, Placement.TEXT

_DIRECTORIES = [OWN, *map(Path, filter(None, os.environ.get("SPARK_TEST_TEMPLATES", "").split(os.pathsep)))]

TEMPLATES = {path.stem: path for directory in _DIRECTORIES for path in sorted(directory.glob("*.jinja"))}

_DIALECTS = [
    Dialect(objects, parts, nulls)
    for parts in (False, True)
    for objects in (True, False)
    for nulls in (False, True)
]


def template(name: str) -> ChatTemplate:
    """In the first dialect in which it shows a conversation with tools; in text, if there is none."""
    source = TEMPLATES[name].read_text()
    spoken = [ChatTemplate(source, dialect) for dialect in _DIALECTS]
    return next(one for placement in (TOOL, TEXT) for one in spoken if _shows(one, placement))


def _shows(template: ChatTemplate, placement: Placement) -> bool:
    first = SCENES[0]
    try:
        prompt = template.prompt(first.request_without_news(Profile(placement, system_role=False)))
    except ModelError:
        return False
    return shows(first, prompt)
