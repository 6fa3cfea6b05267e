import pytest

from agent_service.tools.mcp.schemas import problem

TEXT = {"type": "string"}
DEEP: dict = {"type": "object"}
for _ in range(200):
    DEEP = {"type": "object", "properties": {"a": DEEP}}


def of(**properties: object) -> dict:
    return {"type": "object", "properties": properties, "$defs": {"text": TEXT}}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        of(a=TEXT, b=True),
        of(a={"$ref": "#/$defs/text"}),
        of(a={"$ref": "#"}),
        {"$id": "https://example.com/a", **of(a={"$ref": "#/$defs/text"})},
        {"$schema": "http://json-schema.org/draft-07/schema#", **of(a={"type": "array", "items": [TEXT]})},
        {"$schema": "http://example.com/of-its-own", "type": "object"},
        of(a={"type": "string", "pattern": "(["}),
        of(a={"type": "string", "pattern": "a{99999999999}"}),
    ],
)
def test_nothing_is_wrong_with_what_a_model_server_can_read(schema: dict) -> None:
    assert problem(schema) == ""


@pytest.mark.parametrize(
    ("schema", "wrong"),
    [
        (of(a={"type": "strnig"}), "has a schema that is none: $.properties.a.type makes no sense"),
        (of(a=None), "has a schema that is none: $.properties.a makes no sense"),
        (of(a=[{"$ref": "#"}]), "has a schema that is none: $.properties.a makes no sense"),
        ({"$schema": None}, "has a schema that is none: $['$schema'] makes no sense"),
        (of(a={"$ref": "#/$defs/lost"}), "has a schema that refers to #/$defs/lost, which is not in it"),
        (of(a={"anyOf": [TEXT, {"$ref": "#lost"}]}), "has a schema that refers to #lost, which is not in it"),
        (
            of(a={"$ref": "http://127.0.0.1/a"}),
            "has a schema that refers to http://127.0.0.1/a, which is not in it",
        ),
        (of(a={"$ref": "http://["}), "has a schema that refers to http://[, which is not in it"),
        (of(a={"$ref": "#/type/x"}), "has a schema that refers to #/type/x, which is not in it"),
        (DEEP, "has a schema that is nested too deeply"),
        ({"type": "object", "title": "a" * 20_000}, "has a schema of 20031 bytes, more than 16384"),
    ],
)
def test_what_makes_no_sense_is_named(schema: dict, wrong: str) -> None:
    assert problem(schema) == wrong
