from uuid import RFC_4122

from agent_service.domain import new_id


def test_ids_sort_in_the_order_of_their_making() -> None:
    ids = [new_id() for _ in range(1000)]
    assert sorted(set(ids)) == ids
    assert {(one.version, one.variant) for one in ids} == {(7, RFC_4122)}
