"""Sessions: a NewSession and a listing's filters on their way in, a Session on its way out."""

import hashlib
from collections.abc import Iterable, Mapping
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from agent_service.domain import (
    Activity,
    NewSession,
    Session,
    SessionConfig,
    SessionMode,
    SessionReading,
    SessionState,
    Usage,
)
from agent_service.errors import ConfigNotFound
from agent_service.rpc.convert import enums, fields
from agent_service.rpc.convert.fields import invalid
from agent_service.rpc.convert.struct import canonical
from agent_service.settings import Limits
from spark.agent.v1 import agent_service_pb2, session_pb2

MAX_COOLDOWN = timedelta(days=365)
MAX_LABELS = 64
MAX_LABEL_KEY_LENGTH = 63

_STATE_NUMBERS = enums.numbers(SessionState, session_pb2.SessionState.Value, "SESSION_STATE")
_STATES = enums.members(_STATE_NUMBERS)
_MODE_NUMBERS = enums.numbers(SessionMode, session_pb2.SessionMode.Value, "SESSION_MODE")
_MODES = enums.members(_MODE_NUMBERS, unset=SessionMode.AUTONOMOUS)
_ACTIVITY_NUMBERS = enums.numbers(Activity, session_pb2.Activity.Value, "ACTIVITY")


def new_session(
    request: agent_service_pb2.CreateSessionRequest,
    limits: Limits,
    known_models: tuple[str, ...],
    known_tools: tuple[str, ...],
) -> NewSession:
    """Check a request for a session. The first known model is the one of a session that names none.

    Raises InvalidField, ConfigNotFound.
    """
    if not request.HasField("session"):
        raise invalid("session", "is required")
    sent = request.session
    config = _config("session.config", sent.config, limits, known_models, known_tools)
    new = NewSession(
        display_name=fields.line("session.display_name", sent.display_name),
        goal=fields.required_text("session.goal", sent.goal, limits.max_text_bytes),
        config=config,
        labels=labels("session.labels", sent.labels),
        request_id=fields.line("request_id", request.request_id),
    )
    return replace(new, digest=_digest(new, sent.config.model))
