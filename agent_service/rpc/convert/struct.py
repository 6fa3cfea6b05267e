"""A Struct as canonical JSON and back: compact, keys in order, whole numbers without a point."""

import json
from math import isfinite
from typing import assert_never

from google.protobuf.struct_pb2 import NULL_VALUE, ListValue, Struct, Value

from agent_service.domain import Json
from agent_service.rpc.convert.fields import invalid

# Readers give up at 100 nested messages. A level of data takes three of them, and the stream that shows it to
# watchers seven more.
MAX_DEPTH = 30
# A number takes 11 bytes of a message and may take 2 of JSON; everything else shrinks less.
_MOST_BYTES_FOR_A_BYTE_OF_JSON = 6
# Below this every whole number is written with all its digits, from here on with an exponent.
_WHOLE_NUMBERS_END = 1e16


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical(value: Json) -> str:
    """The one way to write a value."""
    return _ENCODER.encode(value)


def data_json(field: str, data: Struct, max_bytes: int) -> str:
    """The data as canonical JSON; `max_bytes` is that of the setting SPARK_MAX_DATA_BYTES. What JSON does not
    keep is taken out of the data: unknown fields, and the sign of a zero."""
    too_long = f"is longer than SPARK_MAX_DATA_BYTES allows: {max_bytes} bytes as compact JSON"
    if data.ByteSize() > max_bytes * _MOST_BYTES_FOR_A_BYTE_OF_JSON:
        raise invalid(field, too_long)
    data.DiscardUnknownFields()
    written = canonical(_object(field, data, depth=1))
    if len(written.encode()) > max_bytes:
        raise invalid(field, too_long)
    return written


def struct(data_json: str) -> Struct:
    data = Struct()
    data.update(json.loads(data_json))
    return data


def _object(field: str, data: Struct, depth: int) -> dict[str, Json]:
    if depth > MAX_DEPTH:
        raise invalid(field, f"is nested more than {MAX_DEPTH} deep")
    return {key: _value(field, value, depth) for key, value in data.fields.items()}


def _array(field: str, data: ListValue, depth: int) -> list[Json]:
    if depth > MAX_DEPTH:
        raise invalid(field, f"is nested more than {MAX_DEPTH} deep")
    return [_value(field, value, depth) for value in data.values]


def _value(field: str, value: Value, depth: int) -> Json:
    kind = value.WhichOneof("kind")
    match kind:
        case "string_value":
            return value.string_value
        case "number_value":
            value.number_value = number = _number(field, value.number_value)
            return number
        case "bool_value":
            return value.bool_value
        case "null_value":
            value.null_value = NULL_VALUE
            return None
        case "struct_value":
            return _object(field, value.struct_value, depth + 1)
        case "list_value":
            return _array(field, value.list_value, depth + 1)
        case None:
            raise invalid(field, "has a value that is not set")
        case _:
            assert_never(kind)


def _number(field: str, number: float) -> int | float:
    if not isfinite(number):
        raise invalid(field, "has a number that JSON cannot hold: NaN or infinity")
    return int(number) if number.is_integer() and abs(number) < _WHOLE_NUMBERS_END else number
