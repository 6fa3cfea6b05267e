"""Reads what a run left behind."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import assert_never

from pydantic import TypeAdapter

from tests.torture.checker.evidence import Asker, Evidence, Post, Session, Stream
from tests.torture.checker.records import (
    Answer,
    Asked,
    Call,
    Calm,
    Closed,
    End,
    Fault,
    Got,
    Line,
    Opened,
    Ran,
    Request,
    Run,
)
from tests.torture.checker.rows import (
    EventLine,
    ListLine,
    MessageLine,
    OtherLine,
    Row,
    SessionLine,
)
from tests.torture.checker.shown import asker, shown

_LINE: TypeAdapter[Line] = TypeAdapter(Line)
_ROW: TypeAdapter[Row] = TypeAdapter(Row)
_WATCHED = (Asker.AGENT, Asker.VOICE)
_MARK = re.compile(r"\[goal:([^\]]*)\]")


def read(directory: Path) -> Evidence:
    """Raises ValueError where a line is none of those agreed upon, or the run has no first line."""
    with (directory / "history.jsonl").open() as history, (directory / "database.jsonl").open() as rows:
        return gathered(map(_LINE.validate_json, history), map(_ROW.validate_json, rows))


def gathered(history: Iterable[Line], rows: Iterable[Row]) -> Evidence:
    lines = iter(history)
    run = next(lines, None)
    if not isinstance(run, Run):
        raise ValueError("the first line says nothing of the run")
    gathering = _Gathering(run, rows)
    for line in lines:
        gathering.take(line)
    return gathering.evidence()


class _Gathering:
    """Sorts the lines by session, which the rows tell of."""

    def __init__(self, run: Run, rows: Iterable[Row]) -> None:
        self._evidence = Evidence(run, run.at, run.at, [], [], [])
        self._by_id: dict[str, Session] = {}
        self._by_interrupt: dict[str, Session] = {}
        self._by_stream: dict[int, Stream] = {}
        self._asked: list[Asked] = []
        self._take_rows(list(rows))
        self._by_name = {session.row.display_name: session for session in self._by_id.values()}

    def _take_rows(self, rows: list[Row]) -> None:
        for line in rows:
            if isinstance(line, SessionLine):
                self._by_id[line.row.session_id] = Session(self._evidence.run, line.row)
        for line in rows:
            match line:
                case MessageLine(_, row):
                    self._by_id[row.session_id].messages.append(row)
                    self._by_interrupt[row.message_id] = self._by_id[row.session_id]
                case EventLine(_, row):
                    self._by_id[row.session_id].events.append(row)
                case ListLine(_, session_id):
                    self._by_id[session_id].listed.append(line)
                case SessionLine() | OtherLine():
                    pass
                case unreachable:
                    assert_never(unreachable)

    def take(self, line: Line) -> None:
        match line:
            case Call():
                self._take_call(line)
            case Opened():
                self._take_stream(line)
            case Got():
                self._by_stream[line.stream].responses.append(line.response)
                self._by_stream[line.stream].heard_at.append(line.at)
            case Closed():
                self._by_stream[line.stream].code = line.code
                self._by_stream[line.stream].closed_at = line.at
            case Asked():
                self._take_asked(line)
            case Fault():
                self._evidence.faults.append(line)
            case Calm():
                self._evidence.calm_at = line.at
            case End():
                self._evidence.end_at = line.at
            case Run() | Ran():
                pass
            case unreachable:
                assert_never(unreachable)

    def _take_call(self, call: Call) -> None:
        posts = list(_posts(call))
        for post in posts:
            if session := self._by_id.get(post.sent.session_id):
                session.posts.append(post)
            elif post.told:
                self._evidence.strays.append(str(post))
        if posts:
            return
        told = call.answer.session.session_id if call.answer and call.answer.session else ""
        named = call.request.session.session_id if call.request.session else ""
        session_id = call.request.session_id or told or named
        if session := self._by_id.get(session_id) or self._by_interrupt.get(call.request.interrupt_id):
            session.calls.append(call)
        elif call.answer and (told or call.request.interrupt_id):
            self._evidence.strays.append(f"{call.method} of {call.began:.3f}")

    def _take_stream(self, opened: Opened) -> None:
        stream = self._by_stream[opened.stream] = Stream(opened)
        if session := self._by_id.get(opened.request.session_id):
            session.streams.append(stream)
        elif session := self._by_interrupt.get(opened.request.interrupt_id):
            session.watches.append(stream)

    def _take_asked(self, asked: Asked) -> None:
        self._asked.append(asked)
        mark = _MARK.search(asked.body.messages[0].words) if asked.body.messages else None
        if mark and (session := self._by_name.get(mark[1])):
            session.asked.append(asked)

    def evidence(self) -> Evidence:
        models = {asked.model for asked in self._asked}
        self._evidence.sessions = list(self._by_id.values())
        for session in self._evidence.sessions:
            session.calm_at, session.end_at = self._evidence.calm_at, self._evidence.end_at
            session.faults = self._evidence.faults
            session.messages.sort(key=lambda row: row.posted_revision)
            session.events.sort(key=lambda event: event.revision)
            # What was asked for later may be about rows that were not read.
            session.asked = [asked for asked in session.asked if asked.began <= session.end_at]
            session.asked.sort(key=lambda asked: asked.began)
            session.is_scripted = _models(session) <= models
            if session.is_scripted:
                session.shown = [shown(session, asked) for asked in session.asked if asker(asked) in _WATCHED]
        return self._evidence


def _models(session: Session) -> set[str]:
    """Every model that the session ever had."""
    configs = [session.row.config, *(event.told.config for event in session.events)]
    return {name for config in configs if config for name in (config.model, config.inner_voice_model) if name}


def _posts(call: Call) -> Iterator[Post]:
    if call.method == "PostInterrupt":
        answer = call.answer or Answer(error=call.error)
        yield from _post(call, call.request, answer)
    elif call.method == "DepositInterrupts":
        failed = Answer(error=call.error)
        answers = call.answer.results if call.answer else [failed] * len(call.request.deposits)
        for request, answer in zip(call.request.deposits, answers, strict=True):
            yield from _post(call, request, answer)


def _post(call: Call, request: Request, answer: Answer) -> Iterator[Post]:
    if request.interrupt:
        refusal = answer.error.refusal if answer.error else None
        yield Post(
            call.began,
            call.at,
            request.request_id,
            request.interrupt,
            answer.interrupt,
            answer.duplicate,
            refusal,
        )
