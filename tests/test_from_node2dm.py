"""docs/from-node2dm.md names options that there are, and its examples are good."""

import re
from pathlib import Path

import attrs
import pytest

from node2dm_tw import config
from node2dm_tw.providers.fcm import FCM
from node2dm_tw.push import read_json
from node2dm_tw.sections import C2DMRoute, CallbackSection, FCMRoute, GatewaySection

PAGE = (Path(__file__).parents[1] / "docs/from-node2dm.md").read_text(encoding="utf-8")
SECTIONS = {
    "node2dm": GatewaySection,
    "c2dm": C2DMRoute,
    "fcm": FCMRoute,
    "callback": CallbackSection,
}
NAMED = re.findall(r"`\[(\w+)\] (\w+)`", PAGE)
EXAMPLES = re.findall(r"^```ini\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
LINES = [line.strip() for line in re.findall(r"^    (g\|.*|\{.*)$", PAGE, re.MULTILINE)]


def test_every_option_named_is_one():
    """In the section it is said to be in."""
    assert len(NAMED) > 10
    for section, option in NAMED:
        assert option in attrs.fields_dict(SECTIONS[section]), (section, option)


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_is_read(tmp_path, text):
    """As it stands on the page, the key file beside it."""
    (tmp_path / "key.json").write_text("{}")
    (tmp_path / "config.ini").write_text(text if "[node2dm]" in text else f"[node2dm]\n{text}")
    settings = config.load(tmp_path / "config.ini", tmp_path, lambda *_: {}, lambda _: None)
    assert settings.routes


@pytest.mark.parametrize("line", LINES)
def test_every_line_is_a_push(line):
    """FCM's rules take it."""
    service = FCM("https://fcm.example")
    if line.startswith("g|"):
        push = service.split(line.removeprefix("g|").encode(), 0.0)
        assert (push.device, push.collapse_key) == (b"TOKEN", b"COLLAPSE_KEY")
    else:
        _, push = read_json(line.encode(), 0.0)
    service.validate(push)


def test_there_are_examples():
    """Of both kinds."""
    assert (len(EXAMPLES), len(LINES)) == (2, 2)
