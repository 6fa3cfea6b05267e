"""Judges a torture run by the invariants of the design, from what it left behind.

Nothing of the product is used: only the rows of the database, what every client was told and when, and every
request that the model server received. Every file is read once, and no check takes longer than in proportion
to what it reads.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.torture.checker import (
    liveness,
    on_delivery,
    on_interrupts,
    on_posts,
    on_requests,
    on_sessions,
    on_streams,
    on_transcript,
)
from tests.torture.checker.evidence import Evidence, Finding, Session

# By the number of the invariant that they are about.
_CHECKS: tuple[tuple[int, Callable[[Session], Iterator[Finding]]], ...] = (
    (1, on_posts.acknowledged_is_there),
    (1, on_posts.a_request_id_is_one_interrupt),
    (1, on_posts.an_acknowledged_post_is_never_refused),
    (1, on_posts.a_request_id_is_reused_with_another_body),
    (1, on_posts.what_is_told_is_so_and_stays_so),
    (2, on_interrupts.each_fact_is_told_once),
    (2, on_interrupts.facts_follow_each_other),
    (2, on_interrupts.an_interrupt_is_posted_once),
    (2, on_delivery.those_due_are_delivered_in_order),
    (3, on_transcript.calls_are_followed_by_their_responses),
    (3, on_requests.calls_are_shown_with_their_responses),
    (4, on_transcript.positions_count_what_is_appended),
    (4, on_requests.the_agent_is_shown_the_transcript),
    (4, on_requests.requests_grow_at_their_end),
    (4, on_requests.a_turn_keeps_its_prompt_and_tools),
    (4, on_requests.a_reply_answers_what_stands_before_it),
    (5, on_interrupts.seen_is_what_a_model_has_begun_to_answer),
    (5, on_interrupts.what_is_answered_was_seen_before),
    (5, on_interrupts.seen_covers_all_that_was_shown),
    (6, on_transcript.a_round_has_one_reply),
    (6, on_transcript.turns_and_rounds_are_counted),
    (6, on_transcript.every_turn_was_claimed_and_given_back),
    (6, on_requests.a_reply_is_from_the_attempt_that_is_told),
    (7, on_sessions.revisions_count_the_events),
    (7, on_sessions.every_row_has_its_event),
    (7, on_streams.streams_have_neither_gaps_nor_doubles),
    (7, on_streams.streams_show_the_same),
    (7, on_streams.events_show_their_rows_as_they_were),
    (7, on_streams.lists_show_every_row),
    (7, on_streams.watches_show_each_state_once_and_end_with_the_last),
    (8, on_interrupts.outstanding_is_counted),
    (8, liveness.after_calm_everything_is_seen_in_time),
    (8, liveness.streams_tell_in_time),
    (8, liveness.a_wait_ends_with_an_interrupt_or_in_its_time),
    (9, on_transcript.summaries_cover_what_is_answered),
    (9, on_transcript.summaries_list_what_was_handled),
    (10, on_interrupts.what_settles_has_a_cause),
    (10, on_sessions.nothing_follows_the_end),
    (10, on_sessions.who_was_told_of_the_end_finds_it_so),
    (10, on_sessions.who_is_stopped_starts_nothing),
    (11, on_posts.the_source_is_who_posted),
    (11, on_posts.other_rows_are_of_the_agent_and_its_inner_voice),
    (12, on_requests.the_inner_voice_is_shown_the_interrupts),
    (12, on_requests.the_inner_voice_opens_every_turn),
    (12, on_requests.every_turn_has_one_user_row_first),
)


@dataclass(frozen=True, slots=True)
class Violation:
    """Of an invariant by its number, in a session by its name. What is wrong, and what it is seen by."""

    invariant: int
    session: str
    what: str
    evidence: str

    def __str__(self) -> str:
        return f"invariant {self.invariant}, {self.session}: {self.what} ({self.evidence})"


def violations(evidence: Evidence) -> list[Violation]:
    lost = [
        Violation(1, "", f"{stray} was acknowledged", "its session is not there") for stray in evidence.strays
    ]
    return lost + [
        Violation(invariant, session.row.display_name or session.row.session_id, what, str(seen_by))
        for session in evidence.sessions
        for invariant, check in _CHECKS
        for what, seen_by in check(session)
    ]
