import asyncio
from dataclasses import replace

import pytest

from agent_service.domain import Evidence, Finding, Interrupt, Placement, Profile, ProfileKey, Session, Terms
from agent_service.errors import LeaseLost
from agent_service.store.rows import profile_fields
from tests.support import IN_PLACE, Store, admit_all

KEY = ProfileKey("http://lamp/v1", "keeper", "a1")
AS_SYSTEM = Finding(Profile(Placement.SYSTEM), Evidence.RENDERED)
AS_USER = Finding(Profile(Placement.USER, system_role=False, calls_alone=True), Evidence.STEPPED_DOWN)


async def test_nothing_is_known_that_nobody_has_found_out(store: Store) -> None:
    assert await store.model_profiles.find(KEY) is None
    assert await store.model_profiles.newest(KEY.server, KEY.model) is None


async def test_what_was_found_out_is_kept_for_its_server_model_and_template_alone(store: Store) -> None:
    await store.model_profiles.keep(KEY, AS_USER)
    assert await store.model_profiles.find(KEY) == AS_USER
    for other in (
        ProfileKey("http://other/v1", "keeper", "a1"),
        ProfileKey("http://lamp/v1", "other", "a1"),
        ProfileKey("http://lamp/v1", "keeper", "b2"),
    ):
        assert await store.model_profiles.find(other) is None


async def test_of_two_that_find_something_out_the_last_one_counts(store: Store) -> None:
    await asyncio.gather(*(store.model_profiles.keep(KEY, AS_SYSTEM) for _ in range(5)))
    await store.model_profiles.keep(KEY, AS_USER)
    assert await store.model_profiles.find(KEY) == AS_USER


async def test_the_newest_is_that_of_any_template(store: Store) -> None:
    await store.model_profiles.keep(KEY, AS_SYSTEM)
    await store.model_profiles.keep(ProfileKey(KEY.server, KEY.model, "b2"), AS_USER)
    assert await store.model_profiles.newest(KEY.server, KEY.model) == AS_USER
    await store.model_profiles.keep(KEY, AS_SYSTEM)
    assert await store.model_profiles.newest(KEY.server, KEY.model) == AS_SYSTEM


# ---- what a turn runs with


def undecided(session: Session) -> Terms:
    return Terms(session.goal, session.config, "You are an agent.", "[]")


async def placements(store: Store, *nudges: Interrupt) -> list[Placement]:
    return [(await store.streams.interrupt(nudge.interrupt_id)).placement for nudge in nudges]


async def test_interrupts_go_where_the_turn_has_them_at_every_safe_point_and_stay_there(store: Store) -> None:
    session_id = await store.session()
    first = await store.nudge(session_id, "one")
    lease = await store.claim(session_id)
    assert await store.begin_turn(lease, undecided)
    as_user = Terms(
        "", (await store.sessions.get(session_id)).session.config, "", "[]", profile=AS_USER.profile
    )
    await store.model_profiles.place_again(lease, as_user, [])
    second = await store.nudge(session_id, "two")
    assert await store.safe_points.begin_round(lease, 2, 1, admit_all)
    assert await placements(store, first, second) == [Placement.TOOL, Placement.USER]


async def test_a_turn_delivers_its_first_interrupts_where_it_will_have_them(store: Store) -> None:
    session_id = await store.session()
    nudge = await store.nudge(session_id)
    lease = await store.claim(session_id)
    point = await store.begin_turn(lease)
    assert point
    assert await placements(store, nudge) == [Placement.SYSTEM]
    assert (await store.load(lease)).terms == point.terms


async def test_a_turn_goes_on_with_other_terms_and_what_no_model_has_seen_is_placed_again(
    store: Store,
) -> None:
    session_id = await store.session()
    seen, unseen = await store.nudge(session_id, "one"), await store.nudge(session_id, "two")
    lease = await store.claim(session_id)
    point = await store.begin_turn(lease)
    assert point
    assert point.terms
    kinds = await store.kinds(session_id)
    changed = Terms(
        "Put the lamp out.",
        replace(point.terms.config, model="large"),
        "You are another agent.",
        "[1]",
        ("Dark.",),
        announced=Placement.SYSTEM,
        profile=AS_USER.profile,
        voice_profile=IN_PLACE,
    )
    await store.model_profiles.place_again(lease, changed, [unseen.interrupt_id])
    assert await placements(store, seen, unseen) == [Placement.SYSTEM, Placement.USER]
    assert (await store.load(lease)).terms == changed
    assert await store.kinds(session_id) == kinds


async def test_only_the_holder_places_again(store: Store) -> None:
    session_id = await store.session()
    nudge = await store.nudge(session_id)
    lease = await store.claim(session_id)
    point = await store.begin_turn(lease)
    assert point
    assert point.terms
    await store.sessions.end(session_id)
    with pytest.raises(LeaseLost):
        await store.model_profiles.place_again(
            lease, undecided(await _now(store, session_id)), [nudge.interrupt_id]
        )
    assert await placements(store, nudge) == [Placement.SYSTEM]


async def _now(store: Store, session_id) -> Session:
    return (await store.sessions.get(session_id)).session


def test_a_profile_that_nobody_knows_is_none_in_the_database_too() -> None:
    assert profile_fields(None) is None
