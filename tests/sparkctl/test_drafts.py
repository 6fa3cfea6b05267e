from sparkctl.drafts import Drafts
from tests.sparkctl.events import delta


def drafts_of(*deltas):
    drafts = Drafts()
    for event in deltas:
        drafts.add(event.text_delta)
    return drafts


def words_of(*deltas):
    return drafts_of(*deltas).draft.words.text


def test_pieces_add_up():
    assert words_of(delta("The lamp "), delta("is lit.", 9)) == "The lamp is lit."


def test_a_missed_piece_shows_as_an_ellipsis():
    assert words_of(delta("The "), delta("lit.", 12)) == "The …lit."


def test_who_comes_late_sees_that_something_is_missing():
    assert words_of(delta("lit.", 12)) == "…lit."


def test_a_piece_that_comes_twice_is_shown_once():
    assert words_of(delta("The "), delta("lamp", 4), delta("lamp", 4)) == "The lamp"


def test_characters_are_counted_not_bytes():
    assert words_of(delta("Föhn 🌊 "), delta("kommt", 7)) == "Föhn 🌊 kommt"


def test_a_new_attempt_replaces_the_text_of_the_one_before():
    assert words_of(delta("Old words"), delta("New", attempt=2)) == "New"


def test_a_late_piece_of_an_older_attempt_is_a_ghost():
    assert words_of(delta("New", attempt=2), delta("Old words", attempt=1)) == "New"


def test_an_attempt_made_again_after_a_crash_replaces_what_was_lost():
    assert words_of(delta("Lost words"), delta("New", offset=0)) == "New"


def test_reasoning_that_begins_again_takes_the_lost_words_with_it():
    drafts = drafts_of(delta("Lost words"), delta("Hm.", kind="REASONING"))

    assert drafts.draft.words.text == ""
    assert drafts.draft.reasoning.text == "Hm."


def test_words_leave_the_reasoning_before_them_and_tool_names_leave_both():
    drafts = drafts_of(delta("Hm.", kind="REASONING"), delta("I ask."), delta("now", kind="TOOL_NAME"))

    assert drafts.draft.reasoning.text == "Hm."
    assert drafts.draft.words.text == "I ask."
    assert drafts.draft.tools == {0: "now"}


def test_what_was_voided_does_not_come_back():
    drafts = drafts_of(delta("Words"))
    drafts.void((1, 2, 0))
    drafts.add(delta(" that are late", 5).text_delta)

    assert not drafts.draft.begun
