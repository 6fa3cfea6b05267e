"""Whether a model can be told of a tool: its server may refuse a whole request for one schema that makes no
sense."""

import json
from collections.abc import Iterator

from jsonschema import Draft202012Validator, SchemaError
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012, specification_with

from agent_service.domain import Json, JsonObject

MAX_BYTES = 16 * 1024


def problem(schema: JsonObject) -> str:
    """What is wrong with a JSON Schema, if anything is. It says where a `$ref` leads only within itself."""
    size = len(json.dumps(schema))
    if size > MAX_BYTES:
        return f"has a schema of {size} bytes, more than {MAX_BYTES}"
    try:
        # Its regular expressions are its own business: to compile them could take for ever.
        validator_for(schema, default=Draft202012Validator).check_schema(schema, format_checker=None)
    except SchemaError as error:
        return f"has a schema that is none: {error.json_path} makes no sense"
    except RecursionError:
        return "has a schema that is nested too deeply"
    if lost := next(_lost(schema), None):
        return f"has a schema that refers to {lost}, which is not in it"
    return ""


def _lost(schema: JsonObject) -> Iterator[str]:
    specification = specification_with(str(schema.get("$schema")), default=DRAFT202012)
    resolver = Registry[Json]().resolver_with_root(specification.create_resource(schema))
    for reference in _references(schema):
        try:
            resolver.lookup(reference)
        except (Unresolvable, ValueError, TypeError):
            yield reference


def _references(schema: Json) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(reference := schema.get("$ref"), str):
            yield reference
        for part in schema.values():
            yield from _references(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _references(part)
