"""Which rows a summary may stand for, and what is read of them. Pure."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.domain import Message, MessageType, Nudge, Text, ToolCall
from agent_service.loop.compaction import covered_rows, newest, newest_notes, noted
from agent_service.loop.conversation import agent_messages, open_calls, words
from agent_service.loop.window import size
from agent_service.loop.work import REPLY_TYPES
from tests.loop.checks import check_requests
from tests.loop.story import TAG, Story, interrupt
from tests.loop.test_conversation import few_examples, innocent, prefixes, stories
from tests.support import IN_PLACE

any_story = given(stories(innocent))


def summary_of(rows: Sequence[Message]) -> Message:
    """What stands for the rows."""
    last = rows[-1]
    return replace(
        last,
        type=MessageType.SUMMARY,
        content=Text("They came to this."),
        position=1000 + last.position,
        covers_through_position=last.position,
    )


def safe_points(story: Story) -> list[list[Message]]:
    return [rows for rows in prefixes(story) if not open_calls(rows)]


# ---- what is covered


@few_examples
@any_story
def test_what_no_reply_follows_is_never_covered(story: Story) -> None:
    for rows in safe_points(story):
        replies = [n for n, row in enumerate(rows) if row.type in REPLY_TYPES]
        for keep_reply in (True, False):
            assert covered_rows(rows, keep_reply) <= (replies[-1] if replies and keep_reply else len(rows))
            kept = rows[covered_rows(rows, keep_reply) :]
            after = rows[replies[-1] + 1 :] if replies else rows
            unanswered = [row for row in after if row.type is not MessageType.TOOL_RESPONSE]
            assert [row for row in kept if row in unanswered] == unanswered


@few_examples
@any_story
def test_a_cut_is_at_the_boundary_of_a_round(story: Story) -> None:
    for rows in safe_points(story):
        for keep_reply in (True, False):
            count = covered_rows(rows, keep_reply)
            for part in (rows[:count], rows[count:]):
                check_requests([agent_messages(IN_PLACE, "", TAG, part)])
                assert not open_calls(part)


@few_examples
@any_story
def test_of_the_replies_the_last_one_is_kept_or_none(story: Story) -> None:
    for rows in safe_points(story):
        kept = {(row.turn, row.round) for row in rows[covered_rows(rows) :] if row.type in REPLY_TYPES}
        everything = [(row.turn, row.round) for row in rows if row.type in REPLY_TYPES]
        assert kept == set(everything[-1:])
        assert all(row.type not in REPLY_TYPES for row in rows[covered_rows(rows, keep_reply=False) :])


@few_examples
@any_story
def test_a_summary_alone_is_not_covered_by_another(story: Story) -> None:
    for rows in safe_points(story):
        for keep_reply in (True, False):
            if count := covered_rows(rows, keep_reply):
                compacted = [summary_of(rows[:count]), *rows[count:]]
                assert covered_rows(compacted, keep_reply) == 0


def test_after_two_compactions_nothing_is_left_that_could_go() -> None:
    story = Story()
    story.begin_turn()
    story.user("Light the lamp.")
    story.begin_round()
    story.reply("At dusk.", ToolCall("a", "now", "{}"))
    story.respond("a", "noon")
    story.begin_round(interrupt(Nudge("Now!")))
    rows = story.rows
    counts = []
    while count := covered_rows(rows) or covered_rows(rows, keep_reply=False):
        rows = [summary_of(rows[:count]), *rows[count:]]
        counts.append(count)
    assert counts == [1, 4]
    assert [row.type for row in rows] == [MessageType.SUMMARY, MessageType.SYSTEM]


# ---- the part of it that a server takes


@few_examples
@given(stories(innocent), st.integers(0, 300))
def test_the_newest_of_rows_begin_at_a_boundary_and_fit(story: Story, max_bytes: int) -> None:
    for rows in safe_points(story):
        found = newest(rows, max_bytes, TAG)
        assert found == rows[len(rows) - len(found) :]
        assert sum(size(words(row, TAG)) for row in found) <= max_bytes
        check_requests([agent_messages(IN_PLACE, "", TAG, found)])


@few_examples
@any_story
def test_all_of_them_are_the_newest_where_there_is_room(story: Story) -> None:
    for rows in safe_points(story):
        assert newest(rows, 10**6, TAG) == rows


@few_examples
@given(stories(innocent), st.integers(0, 300))
def test_an_earlier_summary_is_always_among_the_newest(story: Story, max_bytes: int) -> None:
    for rows in safe_points(story):
        if count := covered_rows(rows):
            compacted = [summary_of(rows[:count]), *rows[count:]]
            found = newest(compacted, max_bytes, TAG)
            assert found[0] == compacted[0]
            assert found[1:] == compacted[len(compacted) - len(found) + 1 :]


def test_no_rows_have_no_newest() -> None:
    assert newest([], 100, TAG) == []


# ---- what a row takes


def test_a_row_takes_its_thoughts_too() -> None:
    story = Story()
    story.begin_turn()
    story.reply("At dusk.", reasoning="Hm. ")
    assert words(story.rows[0], TAG) == "Hm. At dusk."


# ---- notes


def taken(*notes: tuple[str, str, bool]) -> Story:
    """Calls of the tool `note`, each with its arguments, the answer, and whether that is an error."""
    story = Story()
    story.begin_turn()
    for n, (arguments, answer, is_error) in enumerate(notes):
        story.begin_round()
        story.reply("", ToolCall(f"{n % 2}", "note", arguments))
        story.respond(f"{n % 2}", answer, "note", is_error)
    return story


def test_a_note_is_what_the_tool_took_in_order() -> None:
    story = taken(
        ('{"text": " One. "}', "Noted.", False),
        ('{"text": "Two."}', "cancelled", True),
        ('{"text": ', "not JSON", True),
        ('{"text": "Four."}', "Noted.", False),
    )
    assert noted(story.rows, 100) == ["One.", "Four."]


def test_a_call_without_its_answer_is_no_note() -> None:
    assert noted(taken(('{"text": "One."}', "Noted.", False)).rows[:-1], 100) == []


def test_a_call_of_another_tool_is_no_note() -> None:
    story = Story()
    story.begin_turn()
    story.reply("", ToolCall("a", "post", '{"text": "One."}'))
    story.respond("a", "Posted.", "post")
    assert noted(story.rows, 100) == []


def test_of_a_long_note_what_fits_is_kept() -> None:
    (note,) = noted(taken(('{"text": "abcdefgh"}', "Noted.", False)).rows, 3)
    assert note == "abc\n[cut here: 8 bytes, of which 3 are shown]"


@pytest.mark.parametrize("escaped", ["\\u0000", "\\ud800"])
def test_a_note_can_be_stored_whatever_its_json_says(escaped: str) -> None:
    assert noted(taken((f'{{"text": "a{escaped}b"}}', "Noted.", False)).rows, 100) == ["a\ufffdb"]


@given(st.lists(st.text(max_size=5)), st.integers(0, 30))
def test_the_newest_notes_are_the_last_that_fit(notes: list[str], max_bytes: int) -> None:
    kept = newest_notes(notes, max_bytes)
    size = [len(note.encode(errors="replace")) for note in notes]
    assert list(kept) == notes[len(notes) - len(kept) :]
    assert sum(size[len(notes) - len(kept) :]) <= max_bytes
    assert len(kept) == len(notes) or sum(size[len(notes) - len(kept) - 1 :]) > max_bytes
