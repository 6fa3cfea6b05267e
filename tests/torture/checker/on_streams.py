"""What streams have shown: invariant 7."""

import json
from collections.abc import Iterator

from tests.torture.checker.evidence import Finding, Session
from tests.torture.checker.records import Json

_FINAL = ("SEEN", "CANCELLED", "EXPIRED", "SUPERSEDED")
_ORDER = ("PENDING", "DELIVERED", *_FINAL)
_STATES = {
    "interrupt_posted": ("PENDING",),
    "interrupt_delivered": ("DELIVERED",),
    "interrupt_seen": ("SEEN",),
    "interrupt_settled": ("CANCELLED", "EXPIRED", "SUPERSEDED"),
}
_KINDS = frozenset(
    {
        *("session_changed", "turn_started", "round_started", "message_appended", "tool_call_started"),
        *("round_failed", "compacted", "turn_ended", *_STATES),
    }
)


def streams_have_neither_gaps_nor_doubles(session: Session) -> Iterator[Finding]:
    for stream in session.streams:
        cursor = stream.opened.request.after_revision
        for response in stream.responses:
            for event in response.events:
                if revision := _revision(event):
                    if revision != cursor + 1:
                        yield f"{stream} shows revision {revision} after {cursor}", stream.opened.door
                    cursor = revision
            if response.last_revision != cursor:
                yield f"{stream} says that it has come to {response.last_revision}", f"it is at {cursor}"
        if sum(response.synced for response in stream.responses) > 1:
            yield f"{stream} says more than once that it is synced", stream.opened.door
        if stream.code == "OK" and (session.row.state != "ended" or cursor != session.row.revision):
            yield (
                f"{stream} ends at {cursor}",
                f"the session is {session.row.state} at {session.row.revision}",
            )


def streams_show_the_same(session: Session) -> Iterator[Finding]:
    """As what is read at the end, byte for byte."""
    pages = [
        page for listed in session.listed if listed.list == "StreamTranscript" for page in listed.answers
    ]
    final = {_revision(event): _canonical(event) for page in pages for event in page.events}
    for stream in session.streams:
        for event in (event for response in stream.responses for event in response.events):
            revision = _revision(event)
            if revision and _canonical(event) != final.setdefault(revision, _canonical(event)):
                yield f"{stream} shows revision {revision} otherwise", [_canonical(event), final[revision]]
    if pages and (missing := set(range(1, session.row.revision + 1)) - final.keys()):
        yield "the list at the end leaves out revisions", sorted(missing)


def events_show_their_rows_as_they_were(session: Session) -> Iterator[Finding]:
    told = {event.revision: event for event in session.events}
    for listed in session.listed:
        for event in (event for page in listed.answers for event in page.events):
            row, kinds = told.get(_revision(event)), _KINDS & event.keys()
            if row and kinds != {row.type}:
                yield f"{row} is shown as {sorted(kinds)}", event
            for kind in kinds & _STATES.keys():
                shown = event[kind]
                interrupt = shown.get("interrupt") if isinstance(shown, dict) else None
                state = str(interrupt.get("state")) if isinstance(interrupt, dict) else ""
                if state.removeprefix("INTERRUPT_STATE_") not in _STATES[kind]:
                    yield f"{kind} of revision {_revision(event)} shows {state}", interrupt


def lists_show_every_row(session: Session) -> Iterator[Finding]:
    of_messages = [row.message_id for row in session.transcript]
    of_interrupts = [row.message_id for row in session.interrupts]
    for listed in session.listed:
        for name, ids, there in (
            (
                "ListMessages",
                [row["message_id"] for page in listed.answers for row in page.messages],
                of_messages,
            ),
            (
                "ListInterrupts",
                [row["interrupt_id"] for page in listed.answers for row in page.interrupts],
                of_interrupts,
            ),
        ):
            if listed.list == name and ids[: len(there)] != there:
                yield f"{name} does not show the rows in their order", [ids, there]


def watches_show_each_state_once_and_end_with_the_last(session: Session) -> Iterator[Finding]:
    for watch in session.watches:
        states = [_state(response.interrupt.state) for response in watch.responses if response.interrupt]
        places = [_ORDER.index(state) if state in _ORDER else -1 for state in states]
        final = [state for state in states if state in _FINAL]
        if places != sorted(set(places)) or final != states[-1:] * len(final):
            yield f"{watch} shows {states}", watch.opened.request.interrupt_id
        if watch.code == "OK" and not final:
            yield f"{watch} ends with {states[-1:]}", watch.opened.request.interrupt_id
        row = session.by_id.get(watch.opened.request.interrupt_id)
        is_now = "SEEN" if row and row.seen_at else str(row and row.settled_as).upper()
        if final and final != [is_now]:
            yield f"{watch} shows {final}", f"it is {is_now}"


def _state(name: str) -> str:
    return name.removeprefix("INTERRUPT_STATE_")


def _revision(event: Json) -> int:
    return int(str(event.get("revision", 0)))


def _canonical(event: Json) -> str:
    return json.dumps(event, sort_keys=True)
