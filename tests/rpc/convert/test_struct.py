import json
import math

import pytest
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from hypothesis import given
from hypothesis import strategies as st

from agent_service.errors import InvalidField
from agent_service.rpc.convert.struct import MAX_DEPTH, canonical, data_json, struct
from spark.agent.v1.agent_service_pb2 import StreamTranscriptResponse
from spark.agent.v1.event_pb2 import Event

LIMIT = 16 * 1024

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
# Minus zero is written as zero.
numbers = st.floats(allow_nan=False, allow_infinity=False).map(lambda number: number + 0.0)
values = st.recursive(
    st.none() | st.booleans() | numbers | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=20,
)
objects = st.dictionaries(words, values, max_size=5)


def to_struct(value: dict[str, object]) -> Struct:
    data = Struct()
    data.update(value)
    return data


def nested(depth: int, kind: str) -> Struct:
    """A Struct that counts as so many levels."""
    value = Value(number_value=1)
    for _ in range(depth - 1):
        inner = value
        value = (
            Value(struct_value=Struct(fields={"a": inner}))
            if kind == "struct"
            else Value(list_value=ListValue(values=[inner]))
        )
    return Struct(fields={"a": value})


@given(objects)
def test_data_survives_the_way_in_and_out(value: dict[str, object]) -> None:
    data = to_struct(value)
    assert struct(data_json("data", data, 10**6)) == data


@given(objects)
def test_the_same_data_is_written_the_same_way_whatever_its_order(value: dict[str, object]) -> None:
    backwards = to_struct(dict(reversed(value.items())))
    assert data_json("data", backwards, 10**6) == data_json("data", to_struct(value), 10**6)


@given(objects)
def test_what_is_written_is_canonical_already(value: dict[str, object]) -> None:
    written = data_json("data", to_struct(value), 10**6)
    assert canonical(json.loads(written)) == written


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (5.0, "5"),
        (-5.0, "-5"),
        (0.0, "0"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (2.0**53, "9007199254740992"),
        (9_999_999_999_999_998.0, "9999999999999998"),
        (1e16, "1e+16"),
        (1e300, "1e+300"),
        (5e-324, "5e-324"),
    ],
)
def test_a_number_is_written_without_a_point_where_it_is_whole(number: float, written: str) -> None:
    assert data_json("data", to_struct({"n": number}), LIMIT) == f'{{"n":{written}}}'


def test_data_is_written_compactly_with_its_keys_in_order() -> None:
    data = to_struct({"b": [True, None, "ü"], "a": {"z": 1, "y": ""}})
    assert data_json("data", data, LIMIT) == '{"a":{"y":"","z":1},"b":[true,null,"ü"]}'


def test_what_json_does_not_keep_is_taken_out_of_the_data() -> None:
    data = to_struct({"zero": -0.0, "deep": [{"zero": -0.0}]})
    data.fields["null"].MergeFromString(b"\x08\x07")
    data.fields["unknown"].MergeFromString(b"\x20\x01\x98\x06\x01")
    kept = struct(data_json("data", data, LIMIT)).SerializeToString(deterministic=True)
    assert data.SerializeToString(deterministic=True) == kept


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_cannot_hold_is_refused(number: float) -> None:
    with pytest.raises(InvalidField, match="NaN or infinity"):
        data_json("data", to_struct({"deep": [{"n": number}]}), LIMIT)


def test_a_value_that_is_not_set_is_refused() -> None:
    with pytest.raises(InvalidField, match="not set"):
        data_json("data", Struct(fields={"a": Value()}), LIMIT)


@pytest.mark.parametrize("kind", ["struct", "list"])
def test_data_may_be_nested_so_deep_and_no_deeper(kind: str) -> None:
    assert data_json("data", nested(MAX_DEPTH, kind), LIMIT)
    with pytest.raises(InvalidField, match="nested more than 30 deep"):
        data_json("data", nested(MAX_DEPTH + 1, kind), LIMIT)


def test_data_as_deep_as_allowed_can_be_read_from_a_stream() -> None:
    stream = StreamTranscriptResponse(events=[Event()])
    row = stream.events[0].message_appended.message
    row.interrupt.notification.data.CopyFrom(nested(MAX_DEPTH, "struct"))
    assert StreamTranscriptResponse.FromString(stream.SerializeToString()) == stream


def test_the_limit_counts_bytes_of_the_json() -> None:
    data = to_struct({"a": "é" * 10})
    written = data_json("data", data, 28)
    assert len(written.encode()) == 28
    with pytest.raises(InvalidField, match="SPARK_MAX_DATA_BYTES allows: 27 bytes"):
        data_json("data", data, 27)


def test_data_of_short_numbers_may_fill_the_limit() -> None:
    many = (LIMIT - len('{"a":[]}') + 1) // 2
    written = data_json("data", to_struct({"a": [1.0] * many}), LIMIT)
    assert LIMIT - 2 < len(written) <= LIMIT


def test_huge_data_is_refused_before_its_values_are_looked_at() -> None:
    data = to_struct({"huge": "x" * 200_000, "odd": math.nan})
    with pytest.raises(InvalidField, match="SPARK_MAX_DATA_BYTES"):
        data_json("data", data, LIMIT)
