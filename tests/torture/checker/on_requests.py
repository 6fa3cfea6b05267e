"""What holds of the requests that the model server received: invariants 3, 4, 6 and 12."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tests.torture.checker.evidence import Asker, Finding, Session, Shown
from tests.torture.checker.records import Asked, ChatMessage
from tests.torture.checker.rows import MessageRow
from tests.torture.checker.shown import said_by

_CONTINUE = "Continue."
# How a reply ends of which nothing may be kept.
_BROKEN = ("cut", "refused")


def calls_are_shown_with_their_responses(session: Session) -> Iterator[Finding]:
    for asked in session.asked:
        waiting: set[str] = set()
        for message in (*asked.body.messages, ChatMessage("nobody")):
            if message.role == "tool":
                if message.tool_call_id not in waiting:
                    yield f"{asked} shows a response to {message.tool_call_id}", sorted(waiting)
                waiting.discard(message.tool_call_id)
            else:
                if waiting:
                    yield f"{asked} shows calls without their responses", sorted(waiting)
                waiting = {call.id for call in message.tool_calls}


def the_agent_is_shown_the_transcript(session: Session) -> Iterator[Finding]:
    appended_at = {row.place: row.appended_at for row in session.transcript}
    for shown in session.shown_to(Asker.AGENT):
        if shown.wrong:
            yield f"{shown} is not the transcript", shown.wrong
        elif appended_at.get(shown.through, 0) > shown.asked.began:
            yield f"{shown} shows position {shown.through}", "it was appended later"


def requests_grow_at_their_end(session: Session) -> Iterator[Finding]:
    """From one compaction to the next. What no model has begun to answer may still change its place, and who
    has lost the session may ask as it was before."""
    latest: dict[int, Shown] = {}
    for shown in session.shown_to(Asker.AGENT):
        before = latest.get(shown.covers)
        if before and not shown.wrong and shown.asked.chunks:
            conversations = before.asked.body.messages[1:], shown.asked.body.messages[1:]
            if not _grows(*sorted(conversations, key=_length)):
                yield f"{shown} does not begin as the one before", str(before)
        if shown.asked.chunks and not shown.wrong and (not before or shown.through >= before.through):
            latest[shown.covers] = shown


def _length(conversation: Sequence[ChatMessage]) -> tuple[int, int]:
    return len(conversation), len(conversation[-1].words) if conversation else 0


def _grows(shorter: Sequence[ChatMessage], longer: Sequence[ChatMessage]) -> bool:
    if not shorter:
        return True
    *head, last = shorter
    there = longer[len(head)]
    # Words may be added to the last message, and nothing else.
    grown = replace(last, content=there.content) if there.words.startswith(last.words) else last
    return list(longer[: len(head)]) == head and there == grown


def a_turn_keeps_its_prompt_and_tools(session: Session) -> Iterator[Finding]:
    """From one compaction to the next, and from one resumption to the next: who resumes a session lets an
    open turn go on with what was changed. Where calls are shown as text there are no tools, and that may come
    to be so within a turn."""
    if session.is_told_as_text:
        return
    turns = {row.place: row.turn for row in session.transcript}
    started_at = {event.told.turn: event.create_time for event in session.of_type("turn_started")}
    known: dict[tuple[int, int], list[Asked]] = defaultdict(list)
    for shown in session.shown_to(Asker.AGENT):
        turn = turns.get(shown.through, 0)
        before = known[turn, shown.covers]
        tools, prompt = shown.asked.body.tools, shown.asked.body.messages[0]
        if any((tools, prompt) == (one.body.tools, one.body.messages[0]) for one in before):
            continue
        began, asked = started_at.get(turn, 0), shown.asked.began
        if before and len(before) > sum(began <= resumed <= asked for resumed in session.resumed_at):
            if tools != before[-1].body.tools:
                yield f"{shown} offers other tools than in its turn before", str(before[-1])
            if prompt != before[-1].body.messages[0]:
                yield f"{shown} has another system prompt than in its turn before", str(before[-1])
        before.append(shown.asked)


# ---- replies

# A reply, and what had been shown to whoever gave it.
_Said = tuple[str, tuple[tuple[str, str, str], ...]]


def a_reply_answers_what_stands_before_it(session: Session) -> Iterator[Finding]:
    """Somebody was shown the transcript up to there, and said just this."""
    for rows, through, asked in _answered(session):
        if not asked:
            yield f"nobody said {rows[0]} when shown the rows through {through}", rows[0].text[:60]


def a_reply_is_from_the_attempt_that_is_told(session: Session) -> Iterator[Finding]:
    """Who has lost the session gets its reply too, and writes none of it."""
    attempts = iter([event for event in session.events if event.type == "round_started"])
    started, following = None, next(attempts, None)
    for rows, _, asked in _answered(session):
        while following and following.revision < rows[0].posted_revision:
            started, following = following, next(attempts, None)
        since = started.create_time if started else 0
        if asked and not any(since <= one.began <= rows[0].posted_at for one in asked):
            yield f"{rows[0]} answers a request of an earlier attempt", [str(one) for one in asked]


def _answered(session: Session) -> Iterator[tuple[Sequence[MessageRow], int, list[Asked]]]:
    """Each reply, through which position it has to have been shown, and the requests that it may answer."""
    if not session.is_scripted:
        return
    replies = (rows for rows in session.replies if rows[0].posted_at <= session.end_at)
    given: dict[tuple[_Said, int], list[Asked]] = defaultdict(list)
    for shown in session.shown_to(Asker.AGENT):
        if shown.asked.ending not in _BROKEN:
            calls = tuple((call.id, call.name, call.arguments) for call in shown.asked.calls)
            given[(shown.asked.text, calls), shown.through].append(shown.asked)
    last = _last_shown(session, whole=not session.is_told_as_text)
    for rows in replies:
        text = "".join(row.text for row in rows if row.type == "assistant")
        calls = tuple(
            (row.call_id or "", row.tool_name or "", row.text) for row in rows if row.type == "tool_call"
        )
        through = last[rows[0].place]
        yield rows, through, given.get(((text, calls), through), [])


def _last_shown(session: Session, whole: bool) -> dict[int, int]:
    """For each position the last one before it that requests show something of, or that a summary covers;
    interrupts only, where not the whole transcript is read in them."""
    last, found = 0, {}
    for row in session.transcript:
        found[row.place] = last
        if row.type == "summary":
            last = max(last, row.covers_through_position)
        elif row.type == "system" or (whole and said_by(row)):
            last = row.place
    return found


# ---- the inner voice


def the_inner_voice_is_shown_the_interrupts(session: Session) -> Iterator[Finding]:
    for shown in session.shown_to(Asker.VOICE):
        if shown.wrong:
            yield f"{shown} does not show the interrupts of the transcript", shown.wrong


def the_inner_voice_opens_every_turn(session: Session) -> Iterator[Finding]:
    """With what it said when it was shown what was delivered before, unless it is disabled: then with fixed
    words."""
    disabled = False
    rows = (row for row in session.transcript if row.type == "user" and row.posted_at <= session.end_at)
    spoken = {row.turn: row for row in rows}
    said: dict[tuple[str, int], list[Shown]] = defaultdict(list)
    for shown in session.shown_to(Asker.VOICE):
        if shown.asked.ending not in _BROKEN:
            said[shown.asked.text.strip() or _CONTINUE, shown.through].append(shown)
    heard = _last_shown(session, whole=False)
    for event in session.events:
        if event.type == "session_changed" and event.told.config:
            disabled = event.told.config.disable_inner_voice
        elif event.type == "turn_started" and (row := spoken.get(event.told.turn)):
            heard_it = said.get((row.text, heard[row.place]), [])
            asked = any(event.create_time <= one.asked.began <= row.posted_at for one in heard_it)
            if disabled and row.text != _CONTINUE:
                yield f"{row} opens its turn", "the inner voice is disabled"
            elif not disabled and session.is_scripted and not asked:
                yield f"{row} opens its turn", "the inner voice did not say it, shown what was there"


def every_turn_has_one_user_row_first(session: Session) -> Iterator[Finding]:
    spoken: set[int] = set()
    for row in session.transcript:
        if row.type == "user":
            if row.turn in spoken:
                yield f"{row} is not the first of turn {row.turn}", row.text[:60]
            spoken.add(row.turn)
        elif row.type in ("assistant", "tool_call") and row.turn not in spoken:
            yield f"{row} stands in turn {row.turn}", "the inner voice has not spoken in it"
            spoken.add(row.turn)
