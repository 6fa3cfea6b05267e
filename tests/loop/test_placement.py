from agent_service.domain import Json, Placement
from agent_service.loop.placement import extend, place


def opening() -> list[dict[str, Json]]:
    return [{"role": "system", "content": "You are an agent."}]


def test_an_interrupt_placed_as_system_is_a_message_of_its_own_beside_the_system_prompt() -> None:
    messages = opening()
    place(messages, Placement.SYSTEM, "one")
    assert messages == [*opening(), {"role": "system", "content": "one"}]


def test_interrupts_without_anything_between_them_are_one_message() -> None:
    messages = opening()
    extend(messages, "user", "Begin.")
    place(messages, Placement.SYSTEM, "one")
    place(messages, Placement.SYSTEM, "two")
    extend(messages, "user", "Go on.")
    place(messages, Placement.SYSTEM, "three")
    assert [(message["role"], message["content"]) for message in messages[1:]] == [
        ("user", "Begin."),
        ("system", "one\n\ntwo"),
        ("user", "Go on."),
        ("system", "three"),
    ]


def test_neighbours_of_one_role_are_joined() -> None:
    messages = opening()
    extend(messages, "user", "one")
    extend(messages, "user", "two")
    assert messages == [*opening(), {"role": "user", "content": "one\n\ntwo"}]
