"""Sessions that are refused and sessions that are created, and calls by id and listings."""

from collections.abc import Callable, Mapping
from functools import partial
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from spark.agent.v1.agent_service_pb2 import (
    CancelInterruptRequest,
    CheckModelRequest,
    CreateSessionRequest,
    EndSessionRequest,
    GetInterruptRequest,
    GetSessionRequest,
    ListInterruptsRequest,
    ListMessagesRequest,
    ListSessionsRequest,
    PauseSessionRequest,
    ResumeSessionRequest,
    StreamTranscriptRequest,
    WatchInterruptRequest,
)
from spark.agent.v1.session_pb2 import SESSION_MODE_ON_INTERRUPT, Session, SessionConfig
from tests.e2e.bad_input import (
    CANCELLED,
    ENDED,
    FULL,
    INVALID,
    NO_INTERRUPT,
    NO_SESSION,
    NOT_CONFIGURED,
    NOT_PENDING,
    OUT_OF_RANGE,
    OVER,
    PAUSED,
    REUSED,
    SUPERSEDED,
    TOKEN,
    UNKNOWN_ID,
    Row,
    each,
    refused,
)
from tests.e2e.bad_input_words import BAD_IDS, BAD_LINES, BAD_TEXTS, GOOD_LINES, GOOD_TEXTS

SECONDS_OF_365_DAYS = 365 * 24 * 60 * 60
NEWEST_REVISION_OF_OVER = 5

BY_SESSION_ID: Mapping[str, Callable[..., Message]] = {
    "GetSession": GetSessionRequest,
    "PauseSession": PauseSessionRequest,
    "ResumeSession": ResumeSessionRequest,
    "EndSession": EndSessionRequest,
    "ListMessages": ListMessagesRequest,
    "ListInterrupts": ListInterruptsRequest,
    "StreamTranscript": StreamTranscriptRequest,
}
BY_INTERRUPT_ID: Mapping[str, Callable[..., Message]] = {
    "GetInterrupt": GetInterruptRequest,
    "CancelInterrupt": CancelInterruptRequest,
    "WatchInterrupt": WatchInterruptRequest,
}
LISTINGS: Mapping[str, Callable[..., Message]] = {
    "ListSessions": ListSessionsRequest,
    "ListMessages": partial(ListMessagesRequest, session_id=PAUSED),
    "ListInterrupts": partial(ListInterruptsRequest, session_id=PAUSED),
}
FORGED_TOKENS = {
    "a word": "next",
    "a number": "50",
    "base64 of nothing": "AAAA",
    "zeros for a token": "A" * 34 + "==",
    "another script": "\u05e9\u05dc\u05d5\u05dd",
    "a NUL": "\0",
    "a megabyte": "A" * 1024 * 1024,
}


def create(
    request_id: str | None = None, config: dict | None = None, **fields: object
) -> CreateSessionRequest:
    """A good one but for what is said, with a request id of its own. The session does nothing by itself."""
    usual = {"model": "demo", "mode": SESSION_MODE_ON_INTERRUPT, "cooldown": Duration()}
    session = Session(
        **{"goal": "Keep the lamp lit."} | fields, config=SessionConfig(**usual | (config or {}))
    )
    return CreateSessionRequest(session=session, request_id=uuid4().hex if request_id is None else request_id)


def configured(**config: object) -> CreateSessionRequest:
    return create(config=config)


def cooling(seconds: int, nanos: int = 0) -> CreateSessionRequest:
    return configured(cooldown=Duration(seconds=seconds, nanos=nanos))


_session = partial(refused, "CreateSession")
_invalid = partial(refused, "CreateSession", INVALID)

REFUSED_SESSIONS = [
    *_invalid("session", {"no session": CreateSessionRequest(request_id="x")}),
    *_invalid(
        "session.goal",
        {"no goal": create(goal=""), "goal of blanks": create(goal=" \n\u3000")}
        | each("goal", BAD_TEXTS, lambda bad: create(goal=bad)),
    ),
    *_invalid("session.display_name", each("name", BAD_LINES, lambda bad: create(display_name=bad))),
    *_invalid("session.labels", {"65 labels": create(labels={str(n): "" for n in range(65)})}),
    *_invalid(
        "session.labels.key",
        {
            "label without a name": create(labels={"": ""}),
            "label of 64 characters": create(labels={"x" * 64: ""}),
        }
        | each("label", BAD_LINES, lambda bad: create(labels={bad: ""})),
    ),
    *_invalid(
        "session.labels.value", each("value of a label", BAD_LINES, lambda bad: create(labels={"a": bad}))
    ),
    *_invalid("request_id", each("request id", BAD_LINES, create)),
    *_session(REUSED, "", {"used id with another goal": create("used", goal="Be loud.")}),
    *_session(
        NOT_CONFIGURED,
        "",
        {
            "unknown model": configured(model="nobody"),
            "model in capitals": configured(model="DEMO"),
            "URL for a model": configured(model="http://127.0.0.1/v1"),
            "unknown model of the inner voice": configured(inner_voice_model="nobody"),
            "unknown tool": configured(tools=["hammer"]),
            "unknown tool among others": configured(tools=["now", "hammer"]),
            "100,000 tools": configured(tools=["hammer"] * 100_000),
        },
    ),
    *_invalid("session.config.model", each("model", BAD_LINES, lambda bad: configured(model=bad))),
    *_invalid(
        "session.config.inner_voice_model",
        each("inner voice", BAD_LINES, lambda bad: configured(inner_voice_model=bad)),
    ),
    *_invalid(
        "session.config.tools",
        {"tool twice": configured(tools=["now", "now"]), "tool without a name": configured(tools=[""])}
        | each("tool", BAD_LINES, lambda bad: configured(tools=["now", bad])),
    ),
    *_invalid(
        "session.config.inner_voice_prompt",
        each("prompt", BAD_TEXTS, lambda bad: configured(inner_voice_prompt=bad)),
    ),
    *_invalid(
        "session.config.mode", {"unknown mode": configured(mode=3), "negative mode": configured(mode=-1)}
    ),
    *_invalid(
        "session.config.cooldown",
        {
            "negative cooldown": cooling(-1),
            "cooldown of a nanosecond less than nothing": cooling(0, -1),
            "cooldown with a second of nanoseconds": cooling(0, 10**9),
            "cooldown of a microsecond more than 365 days": cooling(SECONDS_OF_365_DAYS, 1000),
            "greatest cooldown": cooling(2**63 - 1),
            "least cooldown": cooling(-(2**63)),
        },
    ),
    *(
        row
        for field, least in (
            ("max_rounds_per_turn", -(2**31)),
            ("max_turns", -(2**31)),
            ("token_budget", -(2**63)),
        )
        for row in _invalid(
            f"session.config.{field}",
            {f"negative {field}": configured(**{field: -1}), f"least {field}": configured(**{field: least})},
        )
    ),
]

CREATED_SESSIONS: Mapping[str, CreateSessionRequest] = (
    each("goal", GOOD_TEXTS, lambda text: create(goal=text))
    | each("prompt", GOOD_TEXTS, lambda text: configured(inner_voice_prompt=text))
    | each("name", GOOD_LINES, lambda line: create(display_name=line))
    | each("request id", GOOD_LINES, create)
    | each("label", GOOD_LINES, lambda line: create(labels={line[:63]: line}))
    | {
        "64 labels": create(labels={str(n).zfill(63): "x" * 200 for n in range(64)}),
        "tools": configured(tools=["note", "now"]),
        "cooldown of 365 days": cooling(SECONDS_OF_365_DAYS),
        "cooldown of a microsecond": cooling(0, 1000),
        "greatest limits": configured(
            max_rounds_per_turn=2**31 - 1, max_turns=2**31 - 1, token_budget=2**63 - 1
        ),
    }
)


def _refused_ids() -> list[Row]:
    rows = []
    for method, request in BY_SESSION_ID.items():
        rows += refused(
            method,
            INVALID,
            "session_id",
            {f"id, {name}": request(session_id=bad) for name, bad in BAD_IDS.items()},
        )
        rows += refused(method, NO_SESSION, "", {"unknown session": request(session_id=UNKNOWN_ID)})
    for method, request in BY_INTERRUPT_ID.items():
        rows += refused(
            method,
            INVALID,
            "interrupt_id",
            {f"id, {name}": request(interrupt_id=bad) for name, bad in BAD_IDS.items()},
        )
        unknown = {"unknown interrupt": UNKNOWN_ID, "session for an interrupt": PAUSED}
        rows += refused(
            method, NO_INTERRUPT, "", {name: request(interrupt_id=bad) for name, bad in unknown.items()}
        )
    return rows


def _refused_pages() -> list[Row]:
    rows = []
    for method, request in LISTINGS.items():
        sizes = {"page of -1": request(page_size=-1), "least page": request(page_size=-(2**31))}
        rows += refused(method, INVALID, "page_size", sizes)
        tokens = FORGED_TOKENS | {"that of another listing": TOKEN}
        rows += refused(
            method,
            INVALID,
            "page_token",
            {f"token, {name}": request(page_token=token) for name, token in tokens.items()},
        )
    for method in ("ListSessions", "ListInterrupts"):
        states = {"no state": 0, "unknown state": 7, "negative state": -1, "greatest state": 2**31 - 1}
        rows += refused(
            method,
            INVALID,
            "states",
            {name: LISTINGS[method](states=[1, state]) for name, state in states.items()},
        )
    return rows


REFUSED_CALLS = [
    *_refused_ids(),
    *_refused_pages(),
    *refused("CheckModel", NOT_CONFIGURED, "", {"unknown model": CheckModelRequest(model="gpt-5")}),
    *refused(
        "CheckModel",
        INVALID,
        "model",
        {f"model, {name}": CheckModelRequest(model=line) for name, line in BAD_LINES.items()},
    ),
    *refused(
        "ListInterrupts",
        INVALID,
        "page_token",
        {"token for all states": ListInterruptsRequest(session_id=FULL, page_token=TOKEN, states=[1])},
    ),
    *refused(
        "ListMessages",
        INVALID,
        "page_token",
        {"token of interrupts": ListMessagesRequest(session_id=FULL, page_token=TOKEN)},
    ),
    *refused(
        "ListSessions",
        INVALID,
        "labels",
        {"65 labels": ListSessionsRequest(labels={str(n): "" for n in range(65)})},
    ),
    *refused(
        "ListSessions",
        INVALID,
        "labels.key",
        each("label", BAD_LINES, lambda bad: ListSessionsRequest(labels={bad: ""})),
    ),
    *refused(
        "ListSessions",
        INVALID,
        "labels.value",
        each("value of a label", BAD_LINES, lambda bad: ListSessionsRequest(labels={"a": bad})),
    ),
    *refused("PauseSession", ENDED, "", {"ended session": PauseSessionRequest(session_id=OVER)}),
    *refused("ResumeSession", ENDED, "", {"ended session": ResumeSessionRequest(session_id=OVER)}),
    *refused(
        "CancelInterrupt",
        NOT_PENDING,
        "",
        {"replaced interrupt": CancelInterruptRequest(interrupt_id=SUPERSEDED)},
    ),
    *refused(
        "StreamTranscript",
        INVALID,
        "after_revision",
        {
            "negative cursor": StreamTranscriptRequest(session_id=PAUSED, after_revision=-1),
            "least cursor": StreamTranscriptRequest(session_id=PAUSED, after_revision=-(2**63)),
        },
    ),
    *refused(
        "StreamTranscript",
        OUT_OF_RANGE,
        "",
        {
            "cursor from the future": StreamTranscriptRequest(
                session_id=OVER, after_revision=NEWEST_REVISION_OF_OVER + 1
            ),
            "greatest cursor": StreamTranscriptRequest(session_id=OVER, after_revision=2**63 - 1),
        },
    ),
]

ANSWERED_CALLS: Mapping[str, tuple[str, Message]] = {
    "greatest page": ("ListInterrupts", ListInterruptsRequest(session_id=FULL, page_size=2**31 - 1)),
    "token of the listing": ("ListInterrupts", ListInterruptsRequest(session_id=FULL, page_token=TOKEN)),
    "states twice": ("ListInterrupts", ListInterruptsRequest(session_id=FULL, states=[6, 1, 6, 1])),
    "100,000 states": ("ListInterrupts", ListInterruptsRequest(session_id=FULL, states=[1] * 100_000)),
    "100,000 states of sessions": ("ListSessions", ListSessionsRequest(states=[1] * 100_000)),
    "nothing to list": ("ListMessages", ListMessagesRequest(session_id=PAUSED)),
    "nothing more to stream": (
        "StreamTranscript",
        StreamTranscriptRequest(session_id=OVER, after_revision=NEWEST_REVISION_OF_OVER),
    ),
    "pause of a paused session": ("PauseSession", PauseSessionRequest(session_id=PAUSED)),
    "end of an ended session": ("EndSession", EndSessionRequest(session_id=OVER)),
    "a cancelled interrupt cancelled": (
        "CancelInterrupt",
        CancelInterruptRequest(interrupt_id=CANCELLED),
    ),
    "a watch of what is final": ("WatchInterrupt", WatchInterruptRequest(interrupt_id=SUPERSEDED)),
}
