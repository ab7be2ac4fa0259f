"""One object for many devices: a push for each."""

import pytest

from node2dm_tw.core.json_form import MAX_DEVICES, check_fields, list_ids, make_push, split_targets
from node2dm_tw.core.push import InvalidPush


def split(**fields):
    return [make_push(each, 0.0) for each in split_targets(check_fields(fields))]


@pytest.mark.parametrize(("many", "one"), [("tokens", "token"), ("fids", "fid")])
def test_each_device_gets_a_push_of_its_own(many, one):
    """In the order of the list, with all other fields."""
    pushes = split(**{many: ["a", "b"], "data": "x", "collapse_key": "k"})
    assert [push.device for push in pushes] == [b"a", b"b"]
    assert [push.fields for push in pushes] == [
        {one: device, "data": "x", "collapse_key": "k"} for device in ("a", "b")
    ]


def test_each_has_an_id_with_its_index():
    """So that what became of one can be told from the others."""
    fields = {"tokens": ["a", "b"], "id": "order:7"}
    assert [push.id for push in split(**fields)] == ["order:7/0", "order:7/1"]
    assert list_ids(fields) == ["order:7/0", "order:7/1"]
    assert list_ids({"token": "a", "id": "x"}) == ["x"]
    assert [push.id for push in split(tokens=["a"])] == [None]


def test_a_list_has_a_limit():
    """As many as the SDKs of Google send at once."""
    assert len(split(tokens=["a"] * MAX_DEVICES)) == MAX_DEVICES


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"tokens": []}, ("field", "tokens")),
        ({"tokens": ["a"] * (MAX_DEVICES + 1)}, ("field", "tokens")),
        ({"tokens": "a"}, ("field", "tokens")),
        ({"tokens": ["a", 7]}, ("field", "tokens")),
        ({"tokens": ["a", None]}, ("field", "tokens")),
        ({"fids": {"a": 1}}, ("field", "fids")),
        ({"tokens": ["a", ""]}, ("token", "tokens[1]")),
        ({"tokens": ["a", "b c"]}, ("token", "token")),
        ({"tokens": ["\ud800"]}, ("utf8", "token")),
        ({"tokens": ["a"], "token": "b"}, ("target", "token")),
        ({"tokens": ["a"], "topic": "b"}, ("target", "topic")),
        ({"tokens": ["a"], "fids": ["b"]}, ("target", "fids")),
    ],
)
def test_what_is_no_list_of_devices(fields, expected):
    """The whole object is refused."""
    with pytest.raises(InvalidPush) as raised:
        split(**fields)
    assert (raised.value.reason, raised.value.field) == expected
