"""What clients were told of their interrupts: invariants 1 and 11."""

from collections import defaultdict
from collections.abc import Iterator

from tests.torture.checker.evidence import Finding, Post, Session
from tests.torture.checker.records import Interrupt
from tests.torture.checker.rows import MessageRow

_DELIVERIES = {
    "next_round": ("DELIVERY_UNSPECIFIED", "DELIVERY_NEXT_ROUND"),
    "next_turn": ("DELIVERY_NEXT_TURN",),
    "immediate": ("DELIVERY_IMMEDIATE",),
}
_FACTS = {"PENDING": 1, "DELIVERED": 2, "SEEN": 3, "CANCELLED": 3, "EXPIRED": 3, "SUPERSEDED": 3}


def acknowledged_is_there(session: Session) -> Iterator[Finding]:
    for post in session.posts:
        if post.told:
            row = session.by_id.get(post.told.interrupt_id)
            if row is None:
                yield "an acknowledged post is not there", post
            elif not _says(row, post.sent):
                yield f"{row} does not say what was posted", post


def a_request_id_is_one_interrupt(session: Session) -> Iterator[Finding]:
    for key, posts in _by_key(session).items():
        ids = {post.told.interrupt_id for post in posts if post.told}
        if len(ids) > 1:
            yield f"{key} has become {len(ids)} interrupts", sorted(ids)
        if sum(post.told is not None and not post.duplicate for post in posts) > 1:
            yield f"{key} was acknowledged as new more than once", [str(post) for post in posts]


def an_acknowledged_post_is_never_refused(session: Session) -> Iterator[Finding]:
    for posts in _by_key(session).values():
        first = min((post for post in posts if post.told), key=lambda post: post.at, default=None)
        for post in posts:
            if first and post.began > first.at:
                if post.refusal and post.sent.asks == first.sent.asks:
                    yield f"{post} was refused with {post.refusal}", f"{first} was acknowledged"
                if post.told and post.sent.asks != first.sent.asks:
                    yield f"{post} was acknowledged with another body", first


def a_request_id_is_reused_with_another_body(session: Session) -> Iterator[Finding]:
    for posts in _by_key(session).values():
        bodies = [post.sent.asks for post in posts]
        for post in posts:
            if post.refusal == "REQUEST_ID_REUSED" and all(body == post.sent.asks for body in bodies):
                yield f"{post} was refused with {post.refusal}", "nobody has posted another body"


def what_is_told_is_so_and_stays_so(session: Session) -> Iterator[Finding]:
    """A state that a client is told is in the database, and later calls tell of no earlier one."""
    told_at: dict[str, list[float]] = defaultdict(lambda: [float("inf")] * 4)
    for began, at, told in sorted(_told(session), key=lambda one: one[1]):
        state = told.state.removeprefix("INTERRUPT_STATE_")
        row, fact = session.by_id.get(told.interrupt_id), _FACTS.get(state, 0)
        if row and not _is_so(row, state, at):
            yield f"{row} was told to be {state}", f"at {at:.3f}"
        times = told_at[told.interrupt_id]
        if any(time < began for time in times[fact + 1 :]):
            yield f"{told.interrupt_id} was told to be {state} after more was told", f"at {at:.3f}"
        times[fact] = min(times[fact], at)


def _told(session: Session) -> Iterator[tuple[float, float, Interrupt]]:
    for post in session.posts:
        if post.told:
            yield post.began, post.at, post.told
    for call in session.calls:
        if call.answer and call.answer.interrupt:
            yield call.began, call.at, call.answer.interrupt


def _is_so(row: MessageRow, state: str, at: float) -> bool:
    match state:
        case "PENDING":
            time: float | None = row.posted_at
        case "DELIVERED":
            time = row.delivered_at
        case "SEEN":
            time = row.seen_at
        case _:
            time = row.settled_at if row.settled_as == state.lower() else None
    return time is not None and time <= at


def _says(row: MessageRow, sent: Interrupt) -> bool:
    told = sent.notification
    said = (
        (told.text, told.type, told.subject, told.data is not None)
        if told
        else (sent.nudge.text if sent.nudge else "", None, "", False)
    )
    return (
        said == (row.text, row.notification_type, row.subject or "", bool(row.data_json))
        and sent.delivery in _DELIVERIES.get(row.delivery or "", ())
        and (sent.coalesce_key, sent.expire_time) == (row.coalesce_key or "", row.expire_time)
    )


def _by_key(session: Session) -> dict[tuple[str, str], list[Post]]:
    posts: dict[tuple[str, str], list[Post]] = defaultdict(list)
    for post in session.posts:
        if post.request_id:
            posts[post.key].append(post)
    return posts


# ---- provenance


def the_source_is_who_posted(session: Session) -> Iterator[Finding]:
    """Of an interrupt that an agent told, nobody else knows."""
    posted = {post.key for post in session.posts}
    told = {post.told.interrupt_id: post for post in session.posts if post.told}
    nameless = any(not post.request_id for post in session.posts)
    for row in session.interrupts:
        post = told.get(row.message_id)
        if post and post.sent.source != row.source:
            yield f"{row} says that it is from {row.source}", post
        elif not post and not nameless and row.key not in posted and not row.source.startswith("agent:"):
            yield f"{row} is from {row.source}, and nobody posted it", row.request_id


def other_rows_are_of_the_agent_and_its_inner_voice(session: Session) -> Iterator[Finding]:
    for row in session.transcript:
        if row.type != "system" and row.source != ("inner_voice" if row.type == "user" else ""):
            yield f"{row} says that it is from {row.source!r}", row.type
