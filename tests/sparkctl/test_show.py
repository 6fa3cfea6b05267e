from datetime import UTC

import pytest

from spark.agent.v1.session_pb2 import Session
from sparkctl import show
from sparkctl.show import Standing
from tests.sparkctl.events import SESSION, Script, at, nudge
from tests.sparkctl.scripted import Forever, Synced

NOW = at(60).ToDatetime(UTC)


def a_session(activity="IDLE", state="ACTIVE", **fields):
    return Session(
        session_id=SESSION,
        display_name="lighthouse",
        goal="Keep the lamp.",
        state=f"SESSION_STATE_{state}",
        activity=f"ACTIVITY_{activity}",
        turn=3,
        **fields,
    )


def shown(session, *events, outstanding=()):
    return [(row.label, row.text) for row in show.rows(Standing(session, outstanding, events), NOW, UTC)]


def said(session, *events, outstanding=()):
    """The texts by their labels."""
    return dict(shown(session, *events, outstanding=outstanding))


async def test_the_newest_facts_are_read_up_to_the_present(scripted, agent):
    session = a_session(revision=1000)
    scripted.agent.sessions, scripted.agent.interrupts = [session], [nudge(), nudge("SEEN")]
    events = Script().turn().turn_ended()
    scripted.agent.streams = [[*events, Synced(), Forever()]]

    assert await show.standing(agent, SESSION) == Standing(session, [nudge()], list(events))
    assert scripted.agent.opened[0].after_revision == 700
    assert not scripted.agent.opened[0].include_deltas


async def test_a_young_session_is_read_from_its_beginning(scripted, agent):
    scripted.agent.sessions, scripted.agent.streams = [a_session(revision=1)], [[Synced()]]

    await show.standing(agent, SESSION)
    assert scripted.agent.opened[0].after_revision == 0


def test_a_session_at_rest_says_since_when_it_waits_and_what_starts_it():
    session = a_session(next_turn_time=at(90))

    assert shown(session, *Script().turn().turn_ended()) == [
        ("session", f"{SESSION} lighthouse"),
        ("goal", "Keep the lamp."),
        ("state", "idle, turn 3"),
        ("since", "02:00:02 (58 s)"),
        ("waits", "the next turn starts at 02:01:30 (in 30 s)"),
        ("goes on", said(session)["goes on"]),
    ]
    assert f"post {SESSION} TEXT" in said(session)["goes on"]


def test_what_is_posted_from_outside_is_not_the_agents_doing():
    events = Script().turn().turn_ended().interrupt("posted", nudge())

    assert said(a_session(), *events)["since"] == "02:00:02 (58 s)"


def test_what_waits_is_told_with_its_source_and_its_age():
    assert said(a_session("QUEUED"), outstanding=[nudge()])["pending"] == (
        "operator nudges: Watch the trawler. (for 50 s, due at the next round)"
    )


def test_what_was_seen_since_the_listing_waits_no_longer():
    seen = Script().interrupt("delivered", nudge("DELIVERED")).interrupt("seen", nudge("SEEN"))

    assert "pending" not in said(a_session("RUNNING"), *seen, outstanding=[nudge()])


def test_a_session_that_backs_off_says_what_failed_and_when_it_is_tried_again():
    session = a_session("BACKING_OFF", next_turn_time=at(90), config={"model": "local"})
    told = said(session, *Script().turn().round().failed(attempt=2).interrupt("posted", nudge()))

    assert told["state"] == "backing off, turn 3"
    assert told["since"] == "02:00:03 (57 s)"
    assert told["failed"] == "round 1, attempt 2: model unavailable"
    assert "agent" not in told
    assert told["waits"] == "the round is tried again at 02:01:30 (in 30 s)"
    assert "the model local answers" in told["goes on"]
    assert told["goes on"].endswith(" models check local")


@pytest.mark.parametrize(("round_", "asked"), [(0, "small"), (1, "local")])
def test_the_model_to_look_at_is_the_one_that_was_asked_last(round_, asked):
    session = a_session("BACKING_OFF", config={"model": "local", "inner_voice_model": "small"})

    assert said(session, *Script().turn().failed(round_))["goes on"].endswith(f"models check {asked}")


def test_a_failure_is_told_until_the_next_attempt_begins():
    failed = Script().turn().round().failed()

    assert said(a_session("QUEUED"), *failed)["failed"] == "round 1, attempt 1: model unavailable"
    assert "failed" not in said(a_session("QUEUED"), *failed.round(1, 2).turn_ended())


def test_a_failure_that_is_over_is_not_told():
    events = Script().turn().round().failed().round(1, 2)

    assert "failed" not in said(a_session("RUNNING"), *events)


def test_a_session_at_work_says_at_what():
    asked = Script().turn().round()
    assert said(a_session("RUNNING"), *asked)["agent"] == "asked the model, no answer yet (58 s)"

    told = said(a_session("RUNNING"), *asked.calls("now").starts("now"))
    assert told["running"] == "now (running for 56 s)"
    assert not {"agent", "waits", "goes on"} & told.keys()


def test_a_session_that_waits_says_until_when_and_why():
    waiting = Script().turn().round().calls("wait", '{"seconds": 90, "reason": "the tide"}')
    told = said(a_session("WAITING", next_turn_time=at(93)), *waiting)

    assert told["waiting"] == "for 57 s, until an interrupt or 02:01:33: the tide"
    assert told["waits"] == "the agent goes on at an interrupt, or at 02:01:33 (in 33 s)"


@pytest.mark.parametrize(
    ("session", "waits", "goes_on"),
    [
        (a_session(), "the next turn starts with an interrupt", "post"),
        (
            a_session("WAITING", next_turn_time=at(90)),
            "the agent goes on at an interrupt, or at 02:01:30 (in 30 s)",
            "post",
        ),
        (a_session("QUEUED"), "work is due, and no replica has taken it yet", "SPARK_MAX_SESSIONS"),
        (a_session("STOPPED", "PAUSED"), "nothing is run", f"resume {SESSION}"),
        (a_session("STOPPED", "FAILED"), "nothing is run", f"resume {SESSION}"),
    ],
    ids=["on interrupt", "waiting", "queued", "paused", "failed"],
)
def test_what_a_session_waits_for_is_told_with_what_helps(session, waits, goes_on):
    assert said(session)["waits"] == waits
    assert goes_on in said(session)["goes on"]


def test_a_session_that_stopped_says_why():
    assert said(a_session("STOPPED", "PAUSED", state_reason="token budget"))["state"] == (
        "paused, turn 3: token budget"
    )


class TestAPausedSession:
    def goes_on(self, config, *events):
        return said(a_session("STOPPED", "PAUSED", config=config), *events)["goes on"]

    def test_at_its_limit_of_turns_needs_more_of_them(self):
        goes_on = self.goes_on({"max_turns": 3}, *Script().turn().turn_ended())

        assert goes_on.endswith(f"resume {SESSION}")
        assert f"update {SESSION} --max-turns N, then " in goes_on

    def test_in_the_last_turn_that_it_may_have_is_only_resumed(self):
        assert "update" not in self.goes_on({"max_turns": 3}, *Script().turn())

    def test_before_its_limit_of_turns_is_only_resumed(self):
        assert "update" not in self.goes_on({"max_turns": 4}, *Script().turn().turn_ended())

    @pytest.mark.parametrize("limit", ["max_rounds_per_turn", "token_budget"])
    def test_with_a_limit_of_rounds_or_tokens_gets_a_fresh_count(self, limit):
        assert self.goes_on({limit: 10}).endswith(f"resume {SESSION}, which grants rounds and tokens afresh")


def test_a_session_that_is_over_waits_for_nothing():
    told = said(a_session("STOPPED", "ENDED"), *Script().session().turn().turn_ended().session("ENDED"))

    assert not {"waits", "goes on", "agent"} & told.keys()
