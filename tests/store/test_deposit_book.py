"""What a book must know before it decides."""

from datetime import UTC, datetime

from agent_service.domain import Delivery, Deposit, Nudge, SessionId, new_id
from agent_service.settings import Limits
from agent_service.store.deposit_book import Book
from agent_service.store.ledger import Ledger

LIMITS = Limits(max_text_bytes=1, max_data_bytes=1, max_pending=3, max_pending_per_source=3)


def deposit(session_id: SessionId, coalesce_key: str = "") -> Deposit:
    return Deposit(
        session_id=session_id,
        source="operator",
        principal="",
        body=Nudge("x"),
        delivery=Delivery.NEXT_ROUND,
        coalesce_key=coalesce_key,
        expire_time=None,
        request_id=str(new_id()),
        digest=b"",
    )


def asked(outstanding: dict[SessionId, int], batch: list[Deposit]) -> set[SessionId]:
    now = datetime.now(UTC)
    ledgers = {session_id: Ledger(session_id, now, 1, count) for session_id, count in outstanding.items()}
    return set(Book(ledgers, (), LIMITS).asks(batch))


def test_pending_interrupts_matter_where_the_batch_brings_a_session_over_its_limit_or_has_a_key() -> None:
    roomy, full, keyed = (SessionId(new_id()) for _ in range(3))
    batch = [deposit(roomy), deposit(roomy), deposit(full), deposit(keyed, coalesce_key="k")]
    assert asked({roomy: 1, full: 3, keyed: 0}, batch) == {full, keyed}


def test_a_large_batch_to_many_sessions_asks_for_none_of_them() -> None:
    session_ids = [SessionId(new_id()) for _ in range(10)]
    assert asked(dict.fromkeys(session_ids, 0), [deposit(one) for one in session_ids]) == set()
