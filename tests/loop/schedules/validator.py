"""Judges what is there when a schedule is over, by the invariants of the design.

Nothing of the product is used: only the rows of the database and what was seen on the way.
"""

from tests.loop.schedules import on_interrupts, on_requests, on_transcript
from tests.loop.schedules.evidence import Evidence

# By the number of the invariant that they are about.
_CHECKS = (
    (1, on_interrupts.acknowledged_is_there),
    (2, on_interrupts.each_fact_is_told_once),
    (2, on_interrupts.nothing_is_lost),
    (2, on_interrupts.those_due_are_delivered_in_order),
    (2, on_interrupts.as_many_are_delivered_as_there_is_room_for),
    (2, on_transcript.who_is_woken_is_told_by_what),
    (3, on_transcript.calls_are_followed_by_their_responses),
    (3, on_requests.calls_are_shown_with_their_responses),
    (4, on_transcript.positions_count_what_is_appended),
    (4, on_requests.the_agent_is_shown_the_rows),
    (4, on_requests.requests_grow_at_their_end),
    (4, on_requests.an_interrupt_always_looks_the_same),
    (5, on_interrupts.seen_is_stamped_when_it_is_read),
    (5, on_interrupts.seen_comes_before_the_answer),
    (6, on_transcript.only_the_holder_writes),
    (6, on_transcript.each_claim_raises_the_epoch),
    (7, on_transcript.revisions_count_the_events),
    (7, on_transcript.turns_and_rounds_are_counted),
    (8, on_interrupts.outstanding_is_counted),
    (9, on_transcript.summaries_cover_what_is_answered),
    (9, on_transcript.summaries_list_what_they_cover),
    (10, on_interrupts.what_settles_has_a_cause),
    (10, on_interrupts.what_has_settled_is_not_shown),
    (10, on_transcript.nothing_follows_the_end),
    (10, on_transcript.a_round_is_interrupted_once),
    (12, on_transcript.the_inner_voice_speaks_once_in_each_turn),
    (12, on_requests.the_inner_voice_is_shown_the_rows),
)


def violations(evidence: Evidence) -> list[tuple[int, str]]:
    """What is wrong, with the number of the invariant that it breaks."""
    found = [(number, words) for number, check in _CHECKS for words in check(evidence)]
    return found + evidence.witness.complaints
