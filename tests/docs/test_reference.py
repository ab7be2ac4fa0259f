"""The reference pages and etc/config.ini say what the code does."""

import re
import runpy
from configparser import RawConfigParser
from itertools import pairwise
from pathlib import Path

import attrs
import pytest

from node2dm_tw.config.load import load
from node2dm_tw.config.route_sections import C2DMRoute, FCMRoute
from node2dm_tw.config.sections import CallbackSection, GatewaySection, Statsd
from node2dm_tw.emulator.settings import OPTIONS, EmulatorSettings, read_section

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / "etc/config.ini").read_text(encoding="utf-8")
SECTIONS = {
    "node2dm": GatewaySection,
    "c2dm": C2DMRoute,
    "fcm": FCMRoute,
    "callback": CallbackSection,
    "statsd": Statsd,
}
EMULATOR_OPTIONS = {"listen", "phones", "accounts", "sender_quota", "device_quota"}


def uncommented() -> str:
    """The example with every option in force."""
    return re.sub(r"^#(?=[a-z_]+ =|\[)", "", EXAMPLE, flags=re.MULTILINE)


def options_of_example() -> dict[str, dict[str, str]]:
    parser = RawConfigParser()
    parser.read_string(uncommented())
    return {title: dict(parser.items(title)) for title in parser.sections()}


def options_of_code(section: type[attrs.AttrsInstance]) -> dict[str, str | None]:
    return {f.name: f.metadata["default"] for f in attrs.fields(section) if f.metadata}


def no_emulator(texts, state_dir, folder):
    return {}


def any_key(file):
    return None


@pytest.mark.parametrize("title", SECTIONS)
def test_the_example_names_exactly_the_options_of_the_code_with_their_defaults(title):
    """An option missing, invented, or shown with another default, fails."""
    expected = options_of_code(SECTIONS[title])
    shown = options_of_example()[title]
    assert shown.keys() == expected.keys()
    differing = {name for name, value in shown.items() if value != expected[name]}
    assert differing == {name for name, value in expected.items() if value is None}


def test_the_example_names_exactly_the_emulators_options_with_their_defaults():
    """What stands there commented out is what holds without it."""
    shown = options_of_example()["emulator"]
    assert shown.keys() == EMULATOR_OPTIONS
    settings, errors = read_section(shown, Path("/state"), Path("/"))
    assert errors == []
    assert settings == EmulatorSettings(Path("/state"))
    assert {*OPTIONS} == {*EMULATOR_OPTIONS, "accounts_file"}


@pytest.mark.parametrize("text", [EXAMPLE, uncommented()], ids=["as it is", "uncommented"])
def test_the_example_loads(tmp_path, text):
    """As it is and with every comment sign taken away, it is a whole configuration."""
    file = tmp_path / "config.ini"
    file.write_text(text, encoding="utf-8")
    (tmp_path / "key.json").touch()
    settings = load(file, tmp_path, no_emulator, any_key)
    assert settings.gateway.udp == (("127.0.0.1", 8120),)
    assert settings.routes[0].name == "c2dm"


def test_the_example_has_one_line_on_each_option():
    """Before each option stands a comment that is a sentence."""
    lines = EXAMPLE.split("\n")
    for before, line in pairwise(lines):
        if re.match(r"#?[a-z_]+ =", line):
            assert re.fullmatch(r"# [A-Z].*\.", before), line


@pytest.mark.parametrize(
    ("page", "written_by"),
    [
        ("etc/config.ini", "config_ini"),
        ("docs/configuration.md", "configuration_md"),
        ("docs/metrics.md", "metrics_md"),
        ("docs/architecture.md", "architecture_md"),
    ],
)
def test_what_is_generated_is_up_to_date(page, written_by):
    """`make docs` would change nothing."""
    generate = runpy.run_path(str(ROOT / "docs/generate.py"))
    assert (ROOT / page).read_text(encoding="utf-8") == generate[written_by]()


def test_the_quickstart_file_loads(tmp_path):
    """What `make run` starts with is valid."""
    key = tmp_path / "key.json"
    key.touch(0o600)
    made = {"username": "a", "password": "b", "service_account": str(key)}
    settings = load(ROOT / "etc/quickstart.ini", tmp_path, lambda *_: made, any_key)
    assert settings.gateway.state_dir == ROOT / "run"
    assert [route.name for route in settings.routes] == ["c2dm", "fcm"]
    # Everybody knows its push_token; `make run` changes the mode, so that nothing is logged.
    assert all("can be read by other users" in each for each in settings.warnings)
