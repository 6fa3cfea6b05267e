"""Our enums and those of the contract, which differ by a prefix of the names."""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import TypeVar

Member = TypeVar("Member", bound=Enum)
Number = TypeVar("Number", bound=int)


def numbers(members: type[Member], value: Callable[[str], Number], prefix: str) -> dict[Member, Number]:
    """The contract's number of each member. One that the contract lacks is an error at import."""
    return {member: value(f"{prefix}_{member.name}") for member in members}


def members(numbers: Mapping[Member, int], unset: Member | None = None) -> dict[int, Member]:
    """The member of each number that a caller may send; 0 is `unset`, or refused."""
    known = {number: member for member, number in numbers.items()}
    return known if unset is None else {0: unset, **known}
