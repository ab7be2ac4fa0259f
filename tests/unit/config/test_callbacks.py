"""The sections [callback] and [callback:ROUTE]."""

import pytest

from node2dm_tw.config.changes import take_changes
from node2dm_tw.config.sections import EVENTS
from node2dm_tw.config.show import format_settings
from tests.unit.config.test_load import MINIMAL, SIGNING_SECRET, errors, load

SHOP = MINIMAL.replace("[c2dm]", "[c2dm:shop]")
OWN = f"[callback:shop]\nhost = shop\nsigning_secret = {SIGNING_SECRET}\n"


@pytest.mark.parametrize(
    ("text", "outcomes"),
    [
        ("", {"bad_device"}),
        ("events = expired\n", {"expired"}),
        ("events = blocked, bad_device,refused,\n", {"blocked", "bad_device", "refused"}),
        ("events = all\n", set(EVENTS)),
        ("events = expired, all\n", set(EVENTS)),
    ],
)
def test_the_events(tmp_path, text, outcomes):
    """By default only devices that are gone."""
    (callback,) = load(tmp_path, f"{MINIMAL}[callback]\nhost = x\n{text}").callbacks
    assert callback.outcomes == outcomes


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("expird", "expired"),
        ("messages_blocked", "blocked"),
        ("bad-device", "bad_device"),
        ("Refused", "refused"),
        ("bad_device; refused", "bad_device"),
        ("collapsed", None),
        ("sent", None),
    ],
)
def test_an_event_that_is_unknown(tmp_path, word, near):
    """The error names those that are known, and the one that is most like it."""
    known = "bad_device, refused, expired, overflowed, blocked, all"
    hint = f"; did you mean {near}?" if near else ""
    assert errors(tmp_path, f"{MINIMAL}[callback]\nhost = x\nevents = bad_device, {word}\n") == [
        f"[callback] events = bad_device, {word}: expected one or more of {known},"
        f" separated by commas{hint}"
    ]


@pytest.mark.parametrize("value", ["", ","])
def test_no_event_at_all(tmp_path, value):
    """A section that tells of nothing is a mistake."""
    (error,) = errors(tmp_path, f"{MINIMAL}[callback]\nhost = x\nevents = {value}\n")
    assert error.startswith(f"[callback] events = {value}".rstrip())


def test_a_format_that_is_unknown(tmp_path):
    """The error names those that are known."""
    assert errors(tmp_path, f"{MINIMAL}[callback]\nhost = x\nformat = xml\n") == [
        "[callback] format = xml: expected one of form, json"
    ]


def test_a_section_for_one_route_inherits_nothing(tmp_path):
    """What it leaves out has its default, not the value of [callback]."""
    text = f"{MINIMAL}{SHOP}[callback]\nhost = x\nport = 1\nshared_secret = hush\n{OWN}"
    common, own = load(tmp_path, text).callbacks
    assert (common.route, own.route) == (None, "shop")
    assert (own.url, own.shared_secret) == ("https://shop/", None)
    assert (common.url, common.signing_secret) == ("https://x:1/", None)


def test_a_section_for_one_route_needs_no_other(tmp_path):
    """And its own secrets are hidden in what is shown."""
    settings = load(tmp_path, SHOP + OWN)
    assert [callback.route for callback in settings.callbacks] == ["shop"]
    lines = format_settings(settings)
    assert lines[lines.index("[callback:shop]") + 2] == "host = shop"
    assert "signing_secret = ***" in lines


@pytest.mark.parametrize(
    ("route", "near"), [("shp", "shop"), ("g", None), ("", None), ("zzz", None)]
)
def test_a_section_for_a_route_that_is_not_configured(tmp_path, route, near):
    """The error names the route that is most like it."""
    text = f"{SHOP}[callback:{route}]\nhost = x\n"
    expected = f"[callback:{route}]: unknown route" + (f"; did you mean {near}?" if near else "")
    assert errors(tmp_path, text) == [expected]


def test_a_route_that_has_the_name_of_its_service(tmp_path):
    """[callback:c2dm] is for [c2dm]."""
    (callback,) = load(tmp_path, MINIMAL + OWN.replace("shop]", "c2dm]")).callbacks
    assert callback.route == "c2dm"


def test_faults_in_a_section_for_one_route(tmp_path):
    """They are named as those of [callback]."""
    assert errors(tmp_path, f"{SHOP}[callback:shop]\nports = 1\n") == [
        "[callback:shop] host: expected the host of the application (required)",
        "[callback:shop] ports: unknown option; did you mean port?",
    ]


def test_reload_takes_secrets_and_events_of_a_section_for_one_route(tmp_path):
    """What else differs waits for a restart, and so does a section that comes or goes."""
    text = f"{MINIMAL}{SHOP}{OWN}"
    changed = text.replace(SIGNING_SECRET, SIGNING_SECRET.replace("Q", "R"))
    changed += "events = all\nformat = json\nretries = 1\n"
    old, new = load(tmp_path, text), load(tmp_path, changed)
    settings, reloaded, waiting = take_changes(old, new)
    assert reloaded == ["[callback:shop] signing_secret", "[callback:shop] events"]
    assert waiting == ["[callback:shop] format", "[callback:shop] retries"]
    (callback,) = settings.callbacks
    assert callback.signing_secret == new.callbacks[0].signing_secret
    assert (callback.outcomes, callback.format) == (set(EVENTS), "form")
    none = load(tmp_path, MINIMAL + SHOP)
    assert take_changes(old, none)[2] == ["[callback:shop]"]
    assert take_changes(none, old)[2] == ["[callback:shop]"]
