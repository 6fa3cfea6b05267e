"""The transcript is driven with events and asked for its rows: no terminal, no clock."""

from datetime import UTC, datetime

import pytest

from sparkctl.rows import Tone
from sparkctl.transcript import Transcript
from tests.sparkctl.events import Script, at, delta, nudge

NOW = at(60).ToDatetime(UTC)


def printed(events, live=False):
    transcript = Transcript(live, UTC)
    return [row for event in events for row in transcript.apply(event)]


def lines(events, live=False):
    return [(row.label, row.text) for row in printed(events, live)]


def foot(*events, now=NOW):
    transcript = Transcript(live=True, zone=UTC)
    for event in events:
        transcript.apply(event)
    return [(row.label, row.text) for row in transcript.foot(now)]


def asking():
    return Script().session().turn().voice("Go on.").round()


def test_a_turn_reads_in_the_order_of_its_events():
    script = Script().session().turn().voice("Look at the lamp.").round().says("I climb.").calls("now", "{}")
    script.starts("now").responds("now", "02:00").round(2).says("Done.", 2).turn_ended()

    assert lines(script) == [
        ("session", "lighthouse: Keep the lamp."),
        ("", "turn 1 · 02:00:02"),
        ("inner voice", "Look at the lamp."),
        ("round 1", ""),
        ("agent", "I climb."),
        ("tool", "now {}"),
        ("response", "now: 02:00"),
        ("round 2", ""),
        ("agent", "Done."),
        ("turn 1", "ended"),
    ]


def test_a_tool_call_is_printed_when_it_starts_and_runs_in_the_foot():
    called = asking().calls("now")
    assert ("tool", "now {}") not in lines(called)

    started = called.starts("now")
    assert lines(started)[-1] == ("tool", "now {}")
    assert foot(*started) == [("running", "now (running for 54 s)")]


def progress(text, place, round_=1):
    return delta(text, offset=place, round_=round_, kind="TOOL_PROGRESS")


class TestProgress:
    def running(self):
        called = asking().calls("now", call_id="c1").calls("web_fetch", call_id="c2")
        return called.starts("now", call_id="c1").starts("web_fetch", call_id="c2")

    def test_stands_beside_the_tool_that_told_it(self):
        assert foot(*self.running(), progress("1 of 3", 1), progress("2 of 3: reading", 1)) == [
            ("running", "now (running for 53 s)"),
            ("running", "web_fetch (running for 52 s) · 2 of 3: reading"),
        ]

    def test_is_not_printed(self):
        assert lines([*self.running(), progress("1 of 3", 0)]) == lines(self.running())

    def test_goes_with_its_tool_and_is_taken_for_that_of_no_other(self):
        answered = self.running().responds("web_fetch", "a page", call_id="c2")
        assert foot(*answered, progress("3 of 3", 1)) == [("running", "now (running for 53 s)")]
        assert foot(*self.running(), progress("1 of 3", 0, round_=2))[0][1] == "now (running for 53 s)"

    def test_of_a_tool_that_runs_again_is_told_anew(self):
        again = [*self.running(), progress("1 of 3", 0), *self.running().starts("now", call_id="c1")[-1:]]
        assert foot(*again)[0][1] == "now (running for 51 s)"

    def test_has_no_power_over_the_terminal(self):
        assert "\x1b" not in foot(*self.running(), progress("\x1b[2J", 0))[0][1]


def test_a_call_that_never_started_is_printed_with_its_response():
    script = asking().calls("note", '{"text": "x"}').responds("note", "skipped: interrupted", is_error=True)

    assert lines(script)[-2:] == [("tool", 'note {"text": "x"}'), ("error", "note: skipped: interrupted")]


class TestAWait:
    arguments = '{"seconds": 3600, "reason": "the tide"}'

    def waiting(self):
        return asking().calls("wait", self.arguments)

    def test_is_printed_with_its_call_since_nothing_is_run_for_it(self):
        assert lines(self.waiting())[-1] == ("tool", f"wait {self.arguments}")
        assert lines(self.waiting().starts("wait")) == lines(self.waiting())

    def test_stands_in_the_foot_with_its_end_and_its_reason_until_it_is_answered(self):
        assert foot(*self.waiting()) == [("waiting", "for 55 s, until an interrupt or 03:00:05: the tide")]
        assert foot(*self.waiting().responds("wait", "An interrupt came.")) == []

    def test_that_the_tool_refuses_is_a_call_like_any_other(self):
        refused = asking().calls("wait", '{"seconds": 0}')
        assert foot(*refused) == []

        refused.responds("wait", "too short", is_error=True)
        assert lines(refused)[-2:] == [("tool", 'wait {"seconds": 0}'), ("error", "wait: too short")]


def test_a_watcher_who_comes_after_the_call_sees_its_name_when_it_starts():
    assert lines([Script().starts("now")[0]]) == [("tool", "now")]


def test_a_long_response_is_cut_and_says_how_much_is_missing():
    row = printed(asking().calls("now").starts("now").responds("now", "line\n" * 100))[-1]

    assert row.text.count("\n") == 8
    assert row.text.endswith("… 460 more characters")


def test_control_characters_from_outside_never_reach_the_terminal():
    text = "\x1b[2Jgone\x07\x9b1A\r\nnext\ttab"
    script = asking().says(text).calls("now", text).starts("now").responds("now", text)
    script.interrupt("delivered", nudge("DELIVERED", text))

    for row in printed(script):
        assert not set(row.text) & set("\x1b\x07\x9b\r")


def test_reasoning_is_printed_before_the_words():
    assert lines(asking().says("I climb.", reasoning="The lamp first."))[-2:] == [
        ("reasoning", "The lamp first."),
        ("agent", "I climb."),
    ]


class TestWhatIsBeingWritten:
    def test_it_stands_in_the_foot_until_it_is_a_row(self):
        script = asking()
        streaming = [*script, delta("I climb"), delta(" the stairs", 7)]
        assert foot(*streaming) == [("agent", "I climb the stairs")]

        assert foot(*streaming, script.says("I climb the stairs.")[-1]) == []

    def test_the_inner_voice_is_told_from_the_agent(self):
        assert foot(*Script().turn(), delta("It is two", round_=0)) == [("inner voice", "It is two")]

    def test_the_name_of_a_tool_shows_while_its_arguments_are_written(self):
        assert foot(*asking(), delta("note", kind="TOOL_NAME")) == [("calling", "note …")]

    def test_before_the_first_piece_it_says_that_the_model_was_asked(self):
        assert foot(*asking()) == [("agent", "asked the model, no answer yet (56 s)")]

    def test_between_two_turns_it_says_so(self):
        assert foot(*asking().says("Done.").turn_ended()) == [("agent", "between two turns (54 s)")]

    @pytest.mark.parametrize(
        "end",
        [
            lambda script: script.failed(),
            lambda script: script.failed(reason="INTERRUPTED"),
            lambda script: script.says("Other words."),
            lambda script: script.calls("now"),
            lambda script: script.round(1, attempt=2),
            lambda script: script.turn_ended(),
            lambda script: script.session("ENDED"),
        ],
        ids=["failed", "interrupted", "words", "call", "new attempt", "turn ended", "session ended"],
    )
    def test_a_piece_that_comes_after_its_end_is_a_ghost(self, end):
        script = asking()
        events = [*script, delta("Ghost"), end(script)[-1], delta(" text", 5), delta("Ghost again", 0)]

        assert "host" not in str(foot(*events))

    def test_the_words_of_a_new_attempt_follow_a_failed_one(self):
        script = asking()
        events = [*script, delta("Ghost"), *script.failed()[-1:], *script.round(1, 2)[-1:]]

        assert foot(*events, delta("I climb", attempt=2)) == [("agent", "I climb")]

    def test_a_lost_connection_takes_it_away(self):
        transcript = Transcript(live=True, zone=UTC)
        for event in [*asking(), delta("I climb")]:
            transcript.apply(event)
        transcript.disconnected(NOW)

        assert "I climb" not in str(transcript.foot(NOW))


class TestAnInterrupt:
    def test_is_pending_then_delivered_then_seen_in_words_and_tones(self):
        script = Script().interrupt("posted", nudge()).interrupt("delivered", nudge("DELIVERED"))
        rows = printed(script.interrupt("seen", nudge("SEEN")))

        assert [(row.tone, row.label, row.text) for row in rows] == [
            (
                Tone.PENDING,
                "pending",
                "operator nudges: Watch the trawler. (02:00:10, due at the next round)",
            ),
            (
                Tone.DELIVERED,
                "delivered",
                "operator nudges: Watch the trawler. (at 02:00:12, posted at 02:00:10)",
            ),
            (Tone.SEEN, "seen", "seen by the model at 02:00:13 · operator nudges: Watch the trawler."),
        ]

    def test_waits_in_the_foot_with_its_age_instead_of_being_printed(self):
        script = Script().interrupt("posted", nudge())

        assert printed(script, live=True) == []
        assert foot(*script) == [
            ("pending", "operator nudges: Watch the trawler. (for 50 s, due at the next round)")
        ]

    def test_stays_in_the_foot_when_delivered_and_leaves_it_when_seen(self):
        script = Script().interrupt("posted", nudge()).interrupt("delivered", nudge("DELIVERED"))
        assert foot(*script) == [
            ("delivered", "operator nudges: Watch the trawler. (at 02:00:12, not yet seen)")
        ]

        assert foot(*script.interrupt("seen", nudge("SEEN"))) == []

    @pytest.mark.parametrize("state", ["PENDING", "DELIVERED"])
    def test_that_waits_from_before_the_first_event_stands_in_the_foot_until_it_is_seen(self, state):
        transcript = Transcript(live=True, zone=UTC)
        assert transcript.waiting([nudge(state)]) == []
        assert [row.label for row in transcript.foot(NOW)] == [state.lower()]

        transcript.apply(Script().interrupt("seen", nudge("SEEN"))[0])
        assert transcript.foot(NOW) == []

    @pytest.mark.parametrize("state", ["PENDING", "DELIVERED"])
    def test_that_waits_from_before_the_first_event_is_printed_where_there_is_no_foot(self, state):
        (row,) = Transcript(live=False, zone=UTC).waiting([nudge(state)])
        assert (row.label, row.text[:25]) == (state.lower(), "operator nudges: Watch th")

    @pytest.mark.parametrize("state", ["CANCELLED", "EXPIRED", "SUPERSEDED"])
    def test_leaves_the_foot_when_it_is_settled(self, state):
        script = Script().interrupt("posted", nudge()).interrupt("settled", nudge(state))

        assert lines(script)[-1] == (state.lower(), "operator nudges: Watch the trawler. (at 02:00:14)")
        assert foot(*script) == []

    def test_is_counted_where_there_are_too_many_to_show(self):
        script = Script()
        for number in range(9):
            interrupt = nudge()
            interrupt.interrupt_id = f"interrupt {number}"
            script.interrupt("posted", interrupt)

        assert len(foot(*script)) == 7
        assert foot(*script)[-1] == ("", "and 3 more")

    def test_shows_a_notification_with_its_type_and_its_data(self):
        interrupt = nudge()
        interrupt.notification.type = "finetune.finished"
        interrupt.notification.subject = "job-7"
        interrupt.notification.data.update({"loss": 0.5})

        (_, text), *_ = lines(Script().interrupt("posted", interrupt))
        assert text.startswith('operator notifies: finetune.finished job-7\n{"loss": 0.5}')


def test_a_failed_round_says_why_and_when_it_is_tried_again():
    script = asking().add(
        round_failed={
            "turn": 1,
            "round": 1,
            "attempt": 2,
            "reason": "ROUND_FAILURE_MODEL_UNAVAILABLE",
            "detail": "connection refused",
            "retry_time": at(30),
        }
    )
    row = printed(script)[-1]

    assert row.tone is Tone.PROBLEM
    assert row.text == "round 1, attempt 2: model unavailable: connection refused (next attempt at 02:00:30)"


def test_a_session_that_backs_off_says_in_the_foot_when_it_tries_again():
    failed = {"turn": 1, "round": 1, "attempt": 1, "retry_time": at(90)}
    script = asking().add(round_failed=failed)
    assert foot(*script) == [("agent", "backing off, next attempt in 30 s")]

    assert foot(*script.round(attempt=2)) == [("agent", "asked the model, no answer yet (54 s)")]


@pytest.mark.parametrize(("state", "tone"), [("PAUSED", Tone.QUIET), ("FAILED", Tone.PROBLEM)])
def test_a_session_that_is_stopped_says_so_and_why_in_the_foot_until_it_works_on(state, tone):
    script = asking().says("Done.").turn_ended().session(state, "limit reached: max_turns, 1")
    transcript = Transcript(live=True, zone=UTC)
    for event in script:
        transcript.apply(event)
    (row,) = transcript.foot(NOW)

    assert (row.tone, row.text) == (tone, f"{state.lower()}: limit reached: max_turns, 1")
    assert foot(*script.session()) == [("agent", "between two turns (54 s)")]


def test_a_session_that_is_stopped_finishes_what_it_is_at():
    assert foot(*asking().calls("now").starts("now").session("PAUSED", "on request")) == [
        ("running", "now (running for 54 s)"),
        ("session", "paused: on request"),
    ]


def test_a_session_that_is_updated_says_what_is_new():
    config, labels = {"model": "local", "max_turns": 3}, {"team": "night"}
    script = Script().session().session(config=config, labels=labels)
    script.session(goal="Keep the harbour.", config=config, labels=labels)

    assert lines(script)[1:] == [
        ("session", "changed: labels, model, max turns"),
        ("session", "changed: goal\nKeep the harbour."),
    ]


def test_a_session_says_its_state_and_the_reason():
    script = (
        Script().session().session("PAUSED", "the operator asked").session().session("FAILED", "5 crashes")
    )

    assert lines(script)[1:] == [
        ("session", "paused: the operator asked"),
        ("session", "active"),
        ("session", "failed: 5 crashes"),
    ]


def test_compaction_says_what_it_replaced():
    summary = {"covers_through_position": 40, "text": "Nothing happened."}
    (row,) = printed(Script().add(compacted={"summary": summary, "handled_interrupts": 2}))

    assert row.text.splitlines() == [
        "rows up to position 40 are replaced by a summary; interrupts listed as handled: 2",
        "Nothing happened.",
    ]


def test_a_compaction_without_a_summary_says_so():
    (row,) = printed(Script().add(compacted={"summary": {"covers_through_position": 40}, "cut": True}))

    assert row.text == "rows up to position 40 are cut off, without a summary"


def test_a_lost_connection_says_since_when_until_it_is_back():
    since = datetime(2026, 1, 1, 2, 0, 40, tzinfo=UTC)
    live, plain = Transcript(live=True, zone=UTC), Transcript(live=False, zone=UTC)

    assert live.disconnected(since) == []
    assert [row.text for row in live.foot(NOW)] == ["disconnected since 02:00:40, trying again"]
    live.connected()
    assert live.foot(NOW) == []

    assert [row.text for row in plain.disconnected(since)] == ["disconnected since 02:00:40, trying again"]
    assert [row.text for row in plain.connected()] == ["connected again"]


def test_an_event_of_a_newer_contract_is_passed_over():
    assert lines(Script().add()) == []
