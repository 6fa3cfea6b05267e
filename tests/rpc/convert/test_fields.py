import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from agent_service.errors import InvalidField, Violation
from agent_service.rpc.convert import fields


def violation(check: Callable[[], object]) -> Violation:
    with pytest.raises(InvalidField) as caught:
        check()
    (found,) = caught.value.violations
    return found


def is_refused(check: Callable[[], object]) -> bool:
    try:
        check()
    except InvalidField:
        return True
    return False


def test_text_refuses_all_control_characters_but_newline_and_tab_and_nothing_else() -> None:
    surrogates = range(0xD800, 0xE000)
    for code in (code for code in range(0x110000) if code not in surrogates):
        character = chr(code)
        control = unicodedata.category(character) == "Cc"
        refused = is_refused(lambda c=character: fields.text("goal", c, 10))  # type: ignore[misc]
        assert refused == (control and character not in "\n\t"), f"U+{code:04X}"


def test_a_line_refuses_newline_and_tab_too() -> None:
    for character in "\n\t\r\0\x7f\x85":
        assert is_refused(lambda c=character: fields.line("key", f"a{c}b"))  # type: ignore[misc]


@pytest.mark.parametrize(
    "words", ["مرحبا", "א\u200dב", "\u202eabc", "👩\u200d👩\u200d👧", "a\u2028b", "\ufeffx"]
)
def test_words_of_any_script_pass_unchanged(words: str) -> None:
    assert fields.text("goal", words, 100) == words
    assert fields.line("display_name", words) == words


def test_the_limit_of_a_text_counts_bytes_of_utf8() -> None:
    assert fields.text("goal", "é" * 8, 16) == "é" * 8
    found = violation(lambda: fields.text("goal", "é" * 8 + "x", 16))
    assert found.field == "goal"
    assert "SPARK_MAX_TEXT_BYTES" in found.description
    assert "16" in found.description


def test_the_error_names_the_control_character() -> None:
    assert "U+0007" in violation(lambda: fields.text("goal", "ding\a", 100)).description


@pytest.mark.parametrize("words", ["", " ", "\n\t ", "\u00a0\u2003"])
def test_a_required_text_needs_more_than_white_space(words: str) -> None:
    assert violation(lambda: fields.required_text("goal", words, 100)).description == "is required"


def test_a_line_may_have_200_characters_and_no_more() -> None:
    assert fields.line("key", "é" * 200)
    assert "200" in violation(lambda: fields.line("key", "é" * 201)).description


def test_an_id_is_a_uuid_in_the_usual_form_in_either_case() -> None:
    expected = UUID("0192f0c1-2b3c-7d4e-8f50-0123456789ab")
    assert fields.session_id("session_id", "0192f0c1-2b3c-7d4e-8f50-0123456789ab") == expected
    assert fields.interrupt_id("interrupt_id", "0192F0C1-2B3C-7D4E-8F50-0123456789AB") == expected


@pytest.mark.parametrize(
    "malformed",
    [
        "nonsense",
        "0192f0c12b3c7d4e8f500123456789ab",
        "{0192f0c1-2b3c-7d4e-8f50-0123456789ab}",
        "urn:uuid:0192f0c1-2b3c-7d4e-8f50-0123456789ab",
        "0192f0c1-2b3c-7d4e-8f50-0123456789ab\n",
        "0192f0c1-2b3c-7d4e-8f50-0123456789a_",
        "\u0660192f0c1-2b3c-7d4e-8f50-0123456789ab",
    ],
)
def test_a_malformed_id_is_refused_by_the_name_of_its_field(malformed: str) -> None:
    assert violation(lambda: fields.session_id("session_id", malformed)) == Violation(
        "session_id", "is not a UUID"
    )


def test_a_missing_id_is_refused_as_missing() -> None:
    assert violation(lambda: fields.interrupt_id("interrupt_id", "")).description == "is required"


aware_times = st.datetimes(timezones=st.just(UTC))


@given(aware_times)
def test_a_time_survives_the_way_out_and_back(time: datetime) -> None:
    assert fields.time("expire_time", fields.timestamp(time)) == time


def test_a_time_is_cut_to_the_microsecond() -> None:
    time = fields.time("expire_time", Timestamp(seconds=1, nanos=1_999))
    assert time == datetime(1970, 1, 1, 0, 0, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "nanos"),
    [(253_402_300_800, 0), (-62_135_596_801, 0), (0, -1), (0, 1_000_000_000), (2**63 - 1, 0), (-(2**63), 0)],
)
def test_a_time_that_no_calendar_has_is_refused(seconds: int, nanos: int) -> None:
    found = violation(lambda: fields.time("expire_time", Timestamp(seconds=seconds, nanos=nanos)))
    assert found.field == "expire_time"


def test_the_last_microsecond_of_the_year_9999_is_the_one_before_which_is_not_stored_as_infinity() -> None:
    last = fields.time("expire_time", Timestamp(seconds=253_402_300_799, nanos=999_999_999))
    assert last == datetime.max.replace(tzinfo=UTC) - timedelta(microseconds=1)


YEAR = timedelta(days=365)


@pytest.mark.parametrize(
    ("seconds", "nanos", "expected"),
    [(0, 0, timedelta(0)), (1, 500_000_000, timedelta(seconds=1.5)), (365 * 86_400, 0, YEAR)],
)
def test_a_duration_may_last_from_nothing_to_the_most(seconds: int, nanos: int, expected: timedelta) -> None:
    assert fields.duration("cooldown", Duration(seconds=seconds, nanos=nanos), YEAR) == expected


@pytest.mark.parametrize(
    ("seconds", "nanos"),
    [(-1, 0), (0, -1), (365 * 86_400, 1_000), (365 * 86_400 + 1, 0), (0, 1_000_000_000), (2**63 - 1, 0)],
)
def test_any_other_duration_is_refused(seconds: int, nanos: int) -> None:
    found = violation(lambda: fields.duration("cooldown", Duration(seconds=seconds, nanos=nanos), YEAR))
    assert found == Violation("cooldown", "must be from 0 to 365 days")
