"""/openapi.json describes the JSON form as the gateway reads it."""

import json
from importlib import resources
from typing import Any

import jsonschema_rs
import pytest

from node2dm_tw.core import json_form, push
from tests.support.grammar import BEYOND_SCHEMAS, OBJECTS, Case

DOCUMENT: dict[str, Any] = json.loads(
    (resources.files("node2dm_tw.admin") / "page/openapi.json").read_text(encoding="utf-8")
)
SCHEMAS = DOCUMENT["components"]["schemas"]
NOT_DESCRIBED = {"collapse_key", "reserved", "too_large", "unknown_route", "unsupported", "utf8"}
"""Reasons that depend on the route or on bytes: no schema can express them."""


def is_described(name: str, value: object) -> bool:
    """Whether a value is as the schema of this name says."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    return bool(jsonschema_rs.Draft202012Validator(schema).is_valid(value))


def decode(case: Case) -> Any:
    try:
        return json_form.decode_json(case.line.strip(b"\xef\xbb\xbf \t\r\0"))
    except push.InvalidPush:
        return None


CASES = [
    case
    for case in OBJECTS
    if decode(case) is not None
    and case not in BEYOND_SCHEMAS
    and not (case.fault and case.fault[0] in NOT_DESCRIBED)
    and b"\\u00fc" not in case.line  # a schema counts characters, the gateway counts bytes
    and b"\\ud800" not in case.line  # no text for the validator
]


def test_every_field_of_the_json_form_is_described():
    """Those of the gateway, and no other."""
    assert SCHEMAS["Push"]["properties"].keys() == json_form._FIELDS.keys()
    assert [next(iter(each["properties"])) for each in SCHEMAS["Push"]["oneOf"]] == [
        *push.TARGETS,
        *json_form.MANY_TARGETS,
    ]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_schema_takes_what_the_gateway_takes(case: Case):
    """And nothing else, but for rules that a schema cannot express."""
    fields = {name: value for name, value in decode(case).items() if value is not None}
    assert is_described("Push", fields) == (case.fault is None)


def test_absent_fields_may_be_null():
    """As many serializers write them."""
    nulls = dict.fromkeys(json_form._FIELDS)
    assert is_described("Push", {**nulls, "token": "t"})
    assert not is_described("Push", nulls)


def test_the_examples_are_what_they_show():
    """Pushes that can be read, and answers as the schemas say."""
    content = DOCUMENT["paths"]["/v1/push"]["post"]["requestBody"]["content"]
    one, several = (each["value"] for each in content["application/json"]["examples"].values())
    lines = [json.loads(line) for line in content["application/x-ndjson"]["example"].splitlines()]
    for fields in (one, *several, *lines):
        assert is_described("Push", fields)
        json_form.read_json(json.dumps(fields).encode(), 0.0)
    for name, schema in SCHEMAS.items():
        assert all(is_described(name, example) for example in schema.get("examples", ()))
