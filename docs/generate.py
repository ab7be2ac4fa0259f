"""Writes etc/config.ini and docs/configuration.md from the options in the code: `make docs`."""

from pathlib import Path

import attrs

from node2dm_tw.config import C2DMRoute, Gateway
from node2dm_tw.emulator.settings import DEFAULT_LISTEN

ROOT = Path(__file__).parents[1]

Row = tuple[str, str | None, str, bool]
"""Name, default as it stands in the file (None: it must be given), one line on it, secret."""

EMULATOR: list[Row] = [
    ("listen", DEFAULT_LISTEN, "where it answers, by TLS: a Twisted endpoint, tcp or tcp6", False),
    ("phones", "demo-phone", "phones that are there from the start, between commas", False),
    ("accounts", "", "who may sign in, email:password between commas; empty: anybody", True),
    ("sender_quota", "", "pushes a sender may send, such as 1000/d; empty: any number", False),
    ("device_quota", "", "pushes a phone may get, such as 20/m; empty: any number", False),
]
"""The options of [emulator], which imports nothing of the gateway's and describes none itself."""

# What stands in the file where the code has no default, or another text says more.
SHOWN = {
    ("node2dm", "state_dir"): ".",
    ("c2dm", "username"): "sender@example.com",
    ("c2dm", "password"): "change-me",
}
MUST_BE_SET = [("c2dm", "username"), ("c2dm", "password")]

NOTES = {
    "node2dm": "What holds for the whole process.",
    "c2dm": "The account that sends. With [emulator] present, username, password, login_url,\n"
    "send_url and ca_file default to the emulator's.",
    "emulator": "Google's side and phones in this process; leave it out for a real one.",
}


def rows(section: type[attrs.AttrsInstance]) -> list[Row]:
    """Read the options of a section off its class."""
    return [
        (field.name, data["default"], data["doc"], data["secret"])
        for field in attrs.fields(section)
        if (data := field.metadata)
    ]


def sections() -> dict[str, list[Row]]:
    """Every section with its options."""
    return {"node2dm": rows(Gateway), "c2dm": rows(C2DMRoute), "emulator": EMULATOR}


def config_ini() -> str:
    """The example file: each option with its default, as a comment unless it must be set."""
    lines = [
        "# Every option of `twistd node2dm -c config.ini`. What is commented out is the",
        "# default. Relative paths are relative to this file, but state_dir is by default the",
        "# folder that twistd starts in. A secret NAME can be read from a file instead: NAME_file.",
    ]
    for title, options in sections().items():
        lines += ["", *(f"# {note}" for note in NOTES[title].split("\n"))]
        lines += [f"#[{title}]" if title == "emulator" else f"[{title}]"]
        for name, default, doc, _ in options:
            value = SHOWN.get((title, name), default)
            sign = "" if (title, name) in MUST_BE_SET else "#"
            lines += ["", f"# {doc[0].upper()}{doc[1:]}.", f"{sign}{name} = {value}".rstrip()]
    return "\n".join(lines) + "\n"


def configuration_md() -> str:
    """The reference, a table for each section."""
    lines = [
        "# Configuration",
        "",
        "This page is written by `make docs`, from the code.",
        "",
        "The file is an INI file in UTF-8: `twistd node2dm -c config.ini`. `%` is not special.",
        "Relative paths are relative to the file. Units are seconds and bytes; rates are written",
        "`N/s`, `N/m`, `N/h` or `N/d`. An unknown section or option is a fault, and every fault of",
        "the file is reported before anything starts.",
        "",
        "An option marked *secret* is never logged nor shown, and can be read from a file instead,",
        "named by the option `NAME_file`.",
    ]
    for title, options in sections().items():
        lines += ["", f"## [{title}]", "", NOTES[title].replace("\n", " "), ""]
        lines += ["| option | default | meaning |", "|---|---|---|"]
        lines += [
            f"| `{name}` | {_default(title, name, default)} | {doc}{', *secret*' * secret} |"
            for name, default, doc, secret in options
        ]
    return "\n".join(lines) + "\n"


def _default(title: str, name: str, default: str | None) -> str:
    if (title, name) == ("node2dm", "state_dir"):
        return "the working directory at start"
    if default is None:
        return "must be set"
    return f"`{default}`" if default else "empty"


def main() -> None:
    """Write both files."""
    (ROOT / "etc/config.ini").write_text(config_ini(), encoding="utf-8")
    (ROOT / "docs/configuration.md").write_text(configuration_md(), encoding="utf-8")


if __name__ == "__main__":
    main()
