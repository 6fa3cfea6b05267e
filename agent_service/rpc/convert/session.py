"""Sessions: a NewSession and a listing's filters on their way in, a Session on its way out."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
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


@dataclass(frozen=True, slots=True)
class SessionChecks:
    """What a caller may say of a session, field by field: of a new one, or of one that is to be changed.

    The first known model is the one of a session that names none. The checks raise InvalidField, and
    ConfigNotFound for a model or a tool that the service does not have.
    """

    limits: Limits
    known_models: tuple[str, ...]
    known_tools: tuple[str, ...]

    def display_name(self, sent: session_pb2.Session) -> str:
        return fields.line("session.display_name", sent.display_name)

    def goal(self, sent: session_pb2.Session) -> str:
        return fields.required_text("session.goal", sent.goal, self.limits.max_text_bytes)

    def labels(self, sent: session_pb2.Session) -> dict[str, str]:
        return labels("session.labels", sent.labels)

    def config(self, sent: session_pb2.Session) -> SessionConfig:
        field, config = "session.config", sent.config
        model = _known("model", f"{field}.model", config.model, self.known_models)
        return SessionConfig(
            model=model or self.known_models[0],
            inner_voice_model=_known(
                "model", f"{field}.inner_voice_model", config.inner_voice_model, self.known_models
            ),
            tools=self._tools(f"{field}.tools", config.tools),
            inner_voice_prompt=fields.text(
                f"{field}.inner_voice_prompt", config.inner_voice_prompt, self.limits.max_text_bytes
            ),
            disable_inner_voice=config.disable_inner_voice,
            mode=fields.member(f"{field}.mode", config.mode, _MODES),
            cooldown=fields.duration(f"{field}.cooldown", config.cooldown, MAX_COOLDOWN),
            max_rounds_per_turn=fields.not_negative(
                f"{field}.max_rounds_per_turn", config.max_rounds_per_turn
            ),
            max_turns=fields.not_negative(f"{field}.max_turns", config.max_turns),
            token_budget=fields.not_negative(f"{field}.token_budget", config.token_budget),
        )

    def _tools(self, field: str, sent: Iterable[str]) -> tuple[str, ...]:
        tools = tuple(_known("tool", field, name, self.known_tools) for name in sent)
        if len(set(tools)) < len(tools) or "" in tools:
            raise invalid(field, "has an empty name, or a name twice")
        return tools


def new_session(request: agent_service_pb2.CreateSessionRequest, checks: SessionChecks) -> NewSession:
    """Check a request for a session. Raises InvalidField, ConfigNotFound."""
    if not request.HasField("session"):
        raise invalid("session", "is required")
    sent = request.session
    goal, config = checks.goal(sent), checks.config(sent)
    display_name, own_labels = checks.display_name(sent), checks.labels(sent)
    return NewSession(
        display_name=display_name,
        goal=goal,
        config=config,
        labels=own_labels,
        request_id=fields.line("request_id", request.request_id),
        # With the model as it was sent: the default may be another one when the call is repeated.
        digest=_digest(display_name, goal, replace(config, model=sent.config.model), own_labels),
    )


def labels(field: str, sent: Mapping[str, str]) -> dict[str, str]:
    if len(sent) > MAX_LABELS:
        raise invalid(field, f"has more than {MAX_LABELS} labels")
    return {
        fields.required_line(f"{field}.key", key, MAX_LABEL_KEY_LENGTH): fields.line(f"{field}.value", value)
        for key, value in sent.items()
    }


def session_states(field: str, sent: Iterable[int]) -> tuple[SessionState, ...]:
    """Each state once, however often it was sent."""
    return tuple(dict.fromkeys(fields.member(field, number, _STATES) for number in sent))


def _known(kind: str, field: str, name: str, known: tuple[str, ...]) -> str:
    """A configured name, or none. A name that is too long or not printable is not echoed in the error."""
    if fields.line(field, name) and name not in known:
        raise ConfigNotFound(kind, name, known)
    return name


def _digest(display_name: str, goal: str, config: SessionConfig, labels: Mapping[str, str]) -> bytes:
    """Tells two requests with the same request id apart by what they ask for."""
    asked = asdict(config) | {"mode": config.mode.value, "cooldown": str(config.cooldown)}
    return hashlib.sha256(canonical([display_name, goal, asked, labels]).encode()).digest()


def session_proto(session: Session) -> session_pb2.Session:
    """A session as its events show it: without what is read beside the facts."""
    return session_pb2.Session(
        session_id=str(session.session_id),
        display_name=session.display_name,
        goal=session.goal,
        state=_STATE_NUMBERS[session.state],
        state_reason=session.state_reason,
        config=_config_proto(session.config),
        labels=session.labels,
        revision=session.revision,
        turn=session.turn,
        create_time=fields.timestamp(session.create_time),
    )


def reading_proto(reading: SessionReading) -> session_pb2.Session:
    proto = session_proto(reading.session)
    proto.activity = _ACTIVITY_NUMBERS[reading.activity]
    proto.pending_interrupts = reading.outstanding
    if reading.next_turn_time:
        proto.next_turn_time.CopyFrom(fields.timestamp(reading.next_turn_time))
    proto.usage.CopyFrom(_usage_proto(reading.usage))
    return proto


def _config_proto(config: SessionConfig) -> session_pb2.SessionConfig:
    cooldown = Duration()
    cooldown.FromTimedelta(config.cooldown)
    return session_pb2.SessionConfig(
        model=config.model,
        inner_voice_model=config.inner_voice_model,
        tools=config.tools,
        inner_voice_prompt=config.inner_voice_prompt,
        disable_inner_voice=config.disable_inner_voice,
        mode=_MODE_NUMBERS[config.mode],
        cooldown=cooldown,
        max_rounds_per_turn=config.max_rounds_per_turn,
        max_turns=config.max_turns,
        token_budget=config.token_budget,
    )


def _usage_proto(usage: Usage) -> session_pb2.Usage:
    return session_pb2.Usage(
        input_tokens=usage.input_tokens,
        cached_input_tokens=usage.cached_input_tokens,
        output_tokens=usage.output_tokens,
        model_requests=usage.model_requests,
    )
