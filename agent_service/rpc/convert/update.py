"""UpdateSession on its way in: what the mask names, checked, as a change of a session."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from google.protobuf.field_mask_pb2 import FieldMask

from agent_service.domain import NewSession, Session, SessionConfig
from agent_service.rpc.convert import fields
from agent_service.rpc.convert.fields import invalid
from agent_service.rpc.convert.session import SessionChecks
from spark.agent.v1 import agent_service_pb2, session_pb2

_CONFIG_FIELDS = tuple(f"config.{name}" for name in session_pb2.SessionConfig.DESCRIPTOR.fields_by_name)
_FIELDS = ("display_name", "goal", "labels", *_CONFIG_FIELDS)
# What a mask may say, and the fields that it means.
_PATHS: Mapping[str, tuple[str, ...]] = {
    "*": _FIELDS,
    "config": _CONFIG_FIELDS,
    **{field: (field,) for field in _FIELDS},
}
_OUTPUT_ONLY = frozenset(session_pb2.Session.DESCRIPTOR.fields_by_name).difference(_PATHS)

Changed = TypeVar("Changed", Session, SessionConfig)


def session_change(
    request: agent_service_pb2.UpdateSessionRequest, checks: SessionChecks
) -> Callable[[Session], Session]:
    """What the request makes of a session. Only the fields to change are checked: a session whose model is no
    longer configured may still get another goal. Raises InvalidField, ConfigNotFound."""
    changing = _changing(request)
    # What stays as it is is empty here, and what is empty passes its check: only the goal is required.
    sent = session_pb2.Session()
    FieldMask(paths=changing).MergeMessage(request.session, sent)
    new = NewSession(
        display_name=checks.display_name(sent),
        goal=checks.goal(sent) if "goal" in changing else "",
        config=checks.config(sent),
        labels=checks.labels(sent),
    )
    of_session = [field for field in changing if "." not in field]
    of_config = [field.removeprefix("config.") for field in changing if "." in field]

    def change(session: Session) -> Session:
        config = _with(session.config, new.config, of_config)
        return replace(_with(session, new, of_session), config=config)

    return change


def _with(old: Changed, new: NewSession | SessionConfig, names: Iterable[str]) -> Changed:
    """The old one with these fields of the new one. Fields have the names of the contract."""
    return replace(old, **{name: getattr(new, name) for name in names})


def _changing(request: agent_service_pb2.UpdateSessionRequest) -> set[str]:
    """The fields to change: those that the mask names, or without a mask (AIP-134) those that are set."""
    if request.update_mask.paths:
        return {field for path in request.update_mask.paths for field in _named(path)}
    if not (populated := _populated(request.session)):
        raise invalid("update_mask", "names no field, and none that can be changed is set")
    return populated


def _named(path: str) -> tuple[str, ...]:
    if path in _PATHS:
        return _PATHS[path]
    # A path that is too long or not printable is not echoed.
    fields.line("update_mask.paths", path)
    if path.partition(".")[0] in _OUTPUT_ONLY:
        raise invalid("update_mask.paths", f"names {path!r}, which is output only")
    raise invalid("update_mask.paths", f"names {path!r}, which is no field of a session")


def _populated(session: session_pb2.Session) -> set[str]:
    of_session = {field.name for field, _ in session.ListFields()}
    of_config = {f"config.{field.name}" for field, _ in session.config.ListFields()}
    return (of_session | of_config).intersection(_FIELDS)
