"""What can go wrong in a run, planted into the lines of a right one."""

import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeAlias

from tests.torture.lines import Lines, prompt

Plant: TypeAlias = Callable[[Lines], None]


# ---- 1


def an_acknowledged_post_is_lost(lines: Lines) -> None:
    gone = lines.row("beta", "system", "Never mind.")
    lines.rows = [line for line in lines.rows if line.get("row") != gone]
    lines.forget_rows(lambda line: line.get("list") == "ListInterrupts")


def an_acknowledged_post_says_something_else(lines: Lines) -> None:
    lines.row("beta", "system", "Never mind.")["text"] = "Mind."


def an_acknowledged_session_is_lost(lines: Lines) -> None:
    session_id = lines.session_id("gamma")
    lines.forget_rows(lambda line: session_id in json.dumps(line))


def a_retry_becomes_another_interrupt(lines: Lines) -> None:
    lines.posts("Look north.")[1]["answer"] = lines.posts("ship-1")[0]["answer"]


def a_retry_is_told_to_be_new(lines: Lines) -> None:
    del lines.posts("Look north.")[1]["answer"]["duplicate"]


def a_retry_is_refused(lines: Lines) -> None:
    retry = lines.posts("Too late.")[1]
    retry |= {"answer": None, "error": {"code": "FAILED_PRECONDITION", "reason": "SESSION_ENDED"}}


def another_body_is_acknowledged(lines: Lines) -> None:
    original, other, _ = lines.posts("Never mind.")
    other |= {"answer": original["answer"] | {"duplicate": True}, "error": None}


def the_same_body_is_called_another(lines: Lines) -> None:
    other = lines.posts("Never mind.")[1]
    other["request"]["interrupt"]["nudge"] = {"text": "Never mind."}
    lines.forget(lambda line: line in lines.posts("Never mind.")[2:])


def a_client_is_told_what_is_not_so(lines: Lines) -> None:
    lines.posts("ship-1")[0]["answer"]["interrupt"]["state"] = "INTERRUPT_STATE_SEEN"


def a_client_is_told_of_an_earlier_state(lines: Lines) -> None:
    retry = lines.posts("Never mind.")[2]
    retry["answer"]["interrupt"]["state"] = "INTERRUPT_STATE_PENDING"


# ---- 2


def a_fact_is_told_at_another_revision(lines: Lines) -> None:
    lines.row("alpha", "system")["seen_revision"] -= 1


def an_interrupt_of_the_next_turn_is_delivered_in_a_round(lines: Lines) -> None:
    lines.row("alpha", "system", "Look north.")["delivery"] = "next_turn"
    for post in lines.posts("Look north."):
        post["request"]["interrupt"]["delivery"] = "DELIVERY_NEXT_TURN"


def a_delivery_gives_no_place(lines: Lines) -> None:
    lines.row("beta", "system", "Never mind.")["delivered_revision"] = 9


def a_portion_says_that_more_wait_than_do(lines: Lines) -> None:
    lines.row("beta", "system", "First.")["left_waiting"] += 1
    lines.replace("[1 more wait", "[2 more wait")


def two_interrupts_have_one_request_id(lines: Lines) -> None:
    lines.row("alpha", "system", "Mind ship 2.")["request_id"] = "ship-8"


# ---- 3


def a_response_answers_another_call(lines: Lines) -> None:
    call_id = lines.row("alpha", "tool_call")["call_id"]
    lines.row("alpha", "tool_response")["call_id"] = "another"
    lines.replace(f'"tool_call_id": "{call_id}"', '"tool_call_id": "another"')


def a_request_shows_a_call_without_its_response(lines: Lines) -> None:
    messages = lines.asked("alpha", "Write a summary")[0]["body"]["messages"]
    messages.remove(next(message for message in messages if message["role"] == "tool"))


# ---- 4


def a_position_is_left_out(lines: Lines) -> None:
    lines.row("gamma", "tool_response")["position"] += 1


def a_row_is_changed_after_it_was_sent(lines: Lines) -> None:
    lines.row("alpha", "assistant")["text"] += "And more."


def a_request_leaves_an_interrupt_out(lines: Lines) -> None:
    messages = lines.agent_asked("alpha")[2]["body"]["messages"]
    messages.remove(next(message for message in messages[1:] if "Look north." in message["content"]))


def a_request_begins_otherwise_than_the_one_before(lines: Lines) -> None:
    lines.agent_asked("alpha")[1]["body"]["messages"][1]["content"] += " "


def a_system_prompt_changes_within_a_turn(lines: Lines) -> None:
    prompt(lines.agent_asked("alpha")[1])["content"] += "!"


def the_tools_change_within_a_turn(lines: Lines) -> None:
    lines.agent_asked("alpha")[1]["body"]["tools"].pop()


def nobody_has_said_a_reply(lines: Lines) -> None:
    lines.agent_asked("alpha")[1]["text"] = "Something else."


def a_broken_reply_is_kept(lines: Lines) -> None:
    lines.agent_asked("alpha")[1]["ending"] = "cut"


# ---- 5


def an_interrupt_is_seen_at_its_delivery(lines: Lines) -> None:
    row = lines.row("alpha", "system", "Look north.")
    row["seen_at"] = row["delivered_at"]


def an_interrupt_is_seen_though_nothing_was_answered(lines: Lines) -> None:
    lines.agent_asked("alpha")[1]["chunks"] = 0


def of_two_that_were_shown_one_is_seen_later(lines: Lines) -> None:
    first, second = lines.row("beta", "system", "Short."), lines.row("beta", "system", "First.")
    assert first["seen_at"] == second["seen_at"]
    [seen] = lines.table("events", "beta", revision=second["seen_revision"])
    later = datetime.fromisoformat(seen["create_time"]) + timedelta(microseconds=1)
    seen["create_time"] = later.isoformat()


def an_interrupt_is_seen_after_its_answer(lines: Lines) -> None:
    """The two events change places."""
    row = lines.row("alpha", "system", "Look north.")
    [seen] = lines.table("events", "alpha", revision=row["seen_revision"])
    appended = lines.table("events", "alpha", type="message_appended")
    answered = next(event for event in appended if event["revision"] > seen["revision"])
    [reply] = lines.table("messages", message_id=answered["message_id"])
    for place in ("revision", "create_time"):
        seen[place], answered[place] = answered[place], seen[place]
    row["seen_revision"], reply["posted_revision"] = seen["revision"], answered["revision"]
    lines.forget_rows(lambda line: "list" in line)


# ---- 6


def a_round_has_two_replies(lines: Lines) -> None:
    lines.row("alpha", "assistant")["round"] = 1


def a_reply_is_from_an_attempt_that_was_given_up(lines: Lines) -> None:
    """The session has another holder meanwhile."""
    given_up, asked = lines.agent_asked("gamma")
    asked["began"] = given_up["began"]


def an_epoch_goes_down(lines: Lines) -> None:
    lines.table("sessions", display_name="alpha")[0]["lease_epoch"] = 1


# ---- 7


def a_revision_is_left_out(lines: Lines) -> None:
    gone = lines.table("events", "alpha", type="tool_call_started")[0]
    lines.rows = [line for line in lines.rows if line.get("row") != gone]


def a_stream_leaves_an_event_out(lines: Lines) -> None:
    next(events for events in lines.streamed() if len(events) > 2).pop(1)


def a_stream_shows_an_event_twice(lines: Lines) -> None:
    events = next(lines.streamed())
    events.append(events[-1])


def a_stream_shows_an_event_otherwise(lines: Lines) -> None:
    next(lines.streamed())[0]["session_changed"]["session"]["goal"] += "!"


def an_event_tells_of_no_row(lines: Lines) -> None:
    row = lines.row("gamma", "tool_response")
    lines.table("events", message_id=row["message_id"])[0]["message_id"] = None


def an_event_shows_a_later_state(lines: Lines) -> None:
    events = [event for page in lines.listed("StreamTranscript", "beta") for event in page.get("events", ())]
    posted = next(event for event in events if "interrupt_posted" in event)
    posted["interrupt_posted"]["interrupt"]["state"] = "INTERRUPT_STATE_SEEN"


def a_watch_shows_a_state_twice(lines: Lines) -> None:
    watched = [line for line in lines.told("got") if "interrupt" in line["response"]]
    lines.history.insert(lines.history.index(watched[0]), watched[0])


def a_list_leaves_a_row_out(lines: Lines) -> None:
    lines.listed("ListMessages", "alpha")[0]["messages"].pop(0)


# ---- 8


def an_outstanding_interrupt_is_not_counted(lines: Lines) -> None:
    lines.table("sessions", display_name="alpha")[0]["outstanding"] = 1


def an_interrupt_waits_too_long(lines: Lines) -> None:
    lines.row("alpha", "system", "Look north.")["seen_at"] = "2999-01-01T00:00:00+00:00"


def a_stream_falls_silent(lines: Lines) -> None:
    [calm] = lines.told("calm")
    heard = next(line for line in lines.told("got") if line["response"].get("events"))
    heard["at"] = calm["at"] + 60


def a_wait_ends_for_nothing(lines: Lines) -> None:
    lines.row("alpha", "tool_call")["deadline"] = "2999-01-01T00:00:00+00:00"


# ---- 9


def a_summary_does_not_list_an_interrupt(lines: Lines) -> None:
    summary = lines.row("alpha", "summary")
    listed = re.findall(r"\n- \[[^\n]*", summary["text"])[-1]
    lines.replace(json.dumps(listed)[1:-1], "")


def a_summary_covers_what_nobody_has_answered(lines: Lines) -> None:
    """Seen by the rows alone: no request is known."""
    lines.forget(lambda line: line["what"] == "asked")
    summary = lines.row("alpha", "summary")
    summary["covers_through_position"] = summary["position"] - 1


def a_summary_counts_more_than_it_covers(lines: Lines) -> None:
    lines.table("events", "alpha", type="compacted")[0]["data"]["handled_interrupts"] += 1


# ---- 10


def an_interrupt_is_cancelled_without_a_cause(lines: Lines) -> None:
    lines.forget(lambda line: line.get("method") == "CancelInterrupt")


def a_session_goes_on_after_its_end_was_told(lines: Lines) -> None:
    end = lines.told("call", method="EndSession")[0]
    end["at"] = end["began"] - 1


def a_paused_session_goes_on(lines: Lines) -> None:
    lines.table("events", "beta", type="session_changed")[-1]["data"]["state"] = "paused"


def an_ended_session_is_still_held(lines: Lines) -> None:
    lines.table("sessions", display_name="gamma")[0]["lease_owner"] = lines.session_id("gamma")


# ---- 11


def an_interrupt_has_another_source(lines: Lines) -> None:
    lines.row("beta", "system", "Never mind.")["source"] = "user:eve"


def nobody_has_posted_an_interrupt(lines: Lines) -> None:
    lines.forget(lambda line: line in lines.posts("Soon."))


def a_row_of_the_inner_voice_is_from_somebody_else(lines: Lines) -> None:
    lines.row("alpha", "user")["source"] = "operator"


# ---- 12


def the_inner_voice_does_not_see_an_interrupt(lines: Lines) -> None:
    for asked in lines.asked("alpha", "You are the inner voice"):
        asked["body"]["messages"] = [
            message for message in asked["body"]["messages"] if "Mind ship 0." not in message["content"]
        ]


def a_turn_opens_with_what_nobody_said(lines: Lines) -> None:
    lines.asked("alpha", "You are the inner voice")[0]["text"] = "Something else."


def a_turn_opens_with_a_broken_reply(lines: Lines) -> None:
    lines.asked("alpha", "You are the inner voice")[0]["ending"] = "cut"


def a_disabled_inner_voice_speaks(lines: Lines) -> None:
    lines.row("beta", "user")["text"] = "Go on."
    lines.replace('"content": "Continue."', '"content": "Go on."')


def the_inner_voice_leaves_a_turn_out(lines: Lines) -> None:
    """What it said in it stands in the turn before."""
    second = [row for row in lines.table("messages", "alpha", type="user") if row["turn"] == 2]
    second[0]["turn"] = 1
