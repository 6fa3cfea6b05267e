"""Changes of a session that are refused, and changes that are made."""

from collections.abc import Mapping
from functools import partial

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from spark.agent.v1.agent_service_pb2 import UpdateSessionRequest
from spark.agent.v1.session_pb2 import Session, SessionConfig
from tests.e2e.bad_input import (
    ENDED,
    INVALID,
    NO_SESSION,
    NOT_CONFIGURED,
    OVER,
    PAUSED,
    UNKNOWN_ID,
    each,
    refused,
)
from tests.e2e.bad_input_words import BAD_IDS, BAD_LINES, BAD_TEXTS, GOOD_LINES, GOOD_TEXTS


def update(*paths: str, to: str = PAUSED, **fields: object) -> UpdateSessionRequest:
    return UpdateSessionRequest(session=Session(session_id=to, **fields), update_mask=FieldMask(paths=paths))


def reconfigure(**config: object) -> UpdateSessionRequest:
    """A change of the config's fields that are named."""
    return update(*(f"config.{name}" for name in config), config=SessionConfig(**config))


_update = partial(refused, "UpdateSession")
_invalid = partial(refused, "UpdateSession", INVALID)

REFUSED_UPDATES = [
    *_invalid(
        "session.session_id", {"no session": UpdateSessionRequest(update_mask=FieldMask(paths=["goal"]))}
    ),
    *_invalid("session.session_id", each("id", BAD_IDS, lambda bad: update("goal", to=bad, goal="Rest."))),
    *_update(NO_SESSION, "", {"unknown session": update("goal", to=UNKNOWN_ID, goal="Rest.")}),
    *_update(ENDED, "", {"ended session": update("goal", to=OVER, goal="Rest.")}),
    *_invalid("update_mask", {"nothing to change": update(), "nothing that can be changed": update(turn=7)}),
    *_invalid(
        "update_mask.paths",
        {
            "path of nothing": update(""),
            "unknown path": update("colour"),
            "unknown path among others": update("goal", "colour", goal="Rest."),
            "unknown path of the config": update("config.colour"),
            "path in capitals": update("Goal", goal="Rest."),
            "path in JSON's way": update("displayName", display_name="Ida"),
            "path into a map": update("labels.a", labels={"a": "b"}),
            "path into a list": update("config.tools.0"),
            "path that goes on after its end": update("goal.", goal="Rest."),
            "id": update("session_id"),
            "state": update("state", state=3),
            "revision": update("revision", revision=1),
            "path into what is output only": update("usage.input_tokens"),
        }
        | each("path", BAD_LINES, update),
    ),
    *_invalid(
        "session.goal",
        {
            "emptied goal": update("goal"),
            "emptied with all the rest": update("*"),
            "goal of blanks": update(goal="\n"),
        }
        | each("goal", BAD_TEXTS, lambda bad: update("goal", goal=bad)),
    ),
    *_invalid("session.display_name", each("name", BAD_LINES, lambda bad: update(display_name=bad))),
    *_invalid("session.labels", {"65 labels": update(labels={str(n): "" for n in range(65)})}),
    *_invalid("session.labels.key", {"label without a name": update(labels={"": "a"})}),
    *_invalid(
        "session.labels.value", each("value of a label", BAD_LINES, lambda bad: update(labels={"a": bad}))
    ),
    *_update(
        NOT_CONFIGURED,
        "",
        {
            "unknown model": reconfigure(model="nobody"),
            "unknown model of the inner voice": reconfigure(inner_voice_model="nobody"),
            "unknown tool": reconfigure(tools=["now", "hammer"]),
        },
    ),
    *_invalid("session.config.tools", {"tool twice": reconfigure(tools=["now", "now"])}),
    *_invalid(
        "session.config.inner_voice_prompt",
        each("prompt", BAD_TEXTS, lambda bad: reconfigure(inner_voice_prompt=bad)),
    ),
    *_invalid("session.config.mode", {"unknown mode": reconfigure(mode=3)}),
    *_invalid("session.config.cooldown", {"negative cooldown": reconfigure(cooldown=Duration(nanos=-1))}),
    *_invalid("session.config.max_turns", {"negative limit": reconfigure(max_turns=-1)}),
    *_invalid("session.config.token_budget", {"least limit": reconfigure(token_budget=-(2**63))}),
]

MADE_UPDATES: Mapping[str, UpdateSessionRequest] = (
    each("goal", GOOD_TEXTS, lambda text: update("goal", goal=text))
    | each("name", GOOD_LINES, lambda line: update(display_name=line))
    | each("label", GOOD_LINES, lambda line: update("labels", labels={line[:63]: line}))
    | {
        "path twice": update("goal", "goal", goal="Rest."),
        "100,000 paths": update(*["goal"] * 100_000, goal="Rest."),
    }
)
