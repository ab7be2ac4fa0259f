"""Writes etc/config.ini and what docs/ has from the code: `make docs`.

That is docs/metrics.md, the reference in docs/configuration.md and the diagrams in
docs/architecture.md.
"""

import enum
import re
from collections.abc import Iterable
from pathlib import Path

import attrs

from node2dm_tw.admin import metric_names as names
from node2dm_tw.admin.lines import is_counter
from node2dm_tw.config.route_sections import C2DMRoute, FCMRoute
from node2dm_tw.config.sections import CallbackSection, GatewaySection, Statsd
from node2dm_tw.delivery import circuit_breaker, session
from node2dm_tw.delivery.circuit_breaker import BreakerState, Effect
from node2dm_tw.emulator.settings import EmulatorSettings

ROOT = Path(__file__).parents[1]


@attrs.frozen
class Row:
    """One option.

    Args:
        name: the option.
        default: as it is written in the file; None where it must be given.
        doc: a description of one line.
        secret: never shown.
        reloads: a change takes effect on SIGHUP.
    """

    name: str
    default: str | None
    doc: str
    secret: bool = False
    reloads: bool = False


# Values in the example where the code has no default, or where another value is clearer.
SHOWN = {
    ("node2dm", "state_dir"): ".",
    ("c2dm", "username"): "sender@example.com",
    ("c2dm", "password"): "change-me",
    ("fcm", "service_account"): "key.json",
    ("callback", "host"): "www.example.com",
    ("statsd", "host"): "127.0.0.1",
}
OPTIONAL = ("fcm", "callback", "statsd", "emulator")
MUST_BE_SET = [("c2dm", "username"), ("c2dm", "password")]

NOTES = {
    "node2dm": "The options of the whole process.",
    "c2dm": "A C2DM sender account. With [emulator] present, username, password, login_url,\n"
    "send_url and ca_file default to the emulator's.",
    "fcm": "A Firebase project, over FCM HTTP v1. The default rates are Google's limits.\n"
    "Each section [c2dm:NAME] or [fcm:NAME] is one more route, named NAME.\n"
    "With [emulator] present, service_account, url and ca_file default to the emulator's.",
    "callback": "The webhook for pushes that ended badly. Without it no callback is sent.\n"
    "A section [callback:ROUTE] replaces it for one route, and inherits nothing from it.",
    "statsd": "The statsd to which the stats are sent. Without it they are not sent.",
    "emulator": "Google's servers and phones, emulated in this process.",
}


def rows(section: type[attrs.AttrsInstance]) -> list[Row]:
    """List the options of a section's class."""
    return [
        Row(field.name, data["default"], data["doc"], data["secret"], data["reloads"])
        for field in attrs.fields(section)
        if (data := field.metadata)
    ]


def sections() -> dict[str, list[Row]]:
    """Return every section with its options."""
    return {
        "node2dm": rows(GatewaySection),
        "c2dm": rows(C2DMRoute),
        "fcm": rows(FCMRoute),
        "callback": rows(CallbackSection),
        "statsd": rows(Statsd),
        "emulator": rows(EmulatorSettings),
    }


def config_ini() -> str:
    """Render etc/config.ini: options with their defaults, commented out unless required."""
    lines = [
        "# Every option of `twistd node2dm -c config.ini`. Commented options have their default.",
        "# Relative paths are relative to this file. By default state_dir is the folder in which",
        "# twistd starts. NAME_file names a file that contains the secret NAME.",
    ]
    for title, options in sections().items():
        lines += ["", *(f"# {note}" for note in NOTES[title].split("\n"))]
        lines += [f"#[{title}]" if title in OPTIONAL else f"[{title}]"]
        for row in options:
            place = (title, row.name)
            sign = "" if place in MUST_BE_SET else "#"
            lines += ["", f"# {row.doc[0].upper()}{row.doc[1:]}."]
            lines += [f"{sign}{row.name} = {SHOWN.get(place, row.default)}".rstrip()]
    return "\n".join(lines) + "\n"


GENERATED = "<!-- What follows is written by `make docs`, from the code. -->\n"


def configuration_md() -> str:
    """Render docs/configuration.md: the handwritten text, and a table for each section."""
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    text, _, _ = page.partition(GENERATED)
    lines = ["These options reload:", ""]
    for title, options in sections().items():
        names = ", ".join(f"`{row.name}`" for row in options if row.reloads)
        lines += [f"- `[{title}]`: {names}"] * bool(names)
    for title, options in sections().items():
        lines += ["", f"## [{title}]", "", NOTES[title].replace("\n", " "), ""]
        lines += ["| option | default | meaning |", "|---|---|---|"]
        lines += [_table_row(title, row) for row in options]
    return f"{text}{GENERATED}\n" + "\n".join(lines) + "\n"


def _table_row(title: str, row: Row) -> str:
    meaning = f"{row.doc}{', *secret*' * row.secret}{', *reloads*' * row.reloads}"
    return f"| `{row.name}` | {_default(title, row.name, row.default)} | {meaning} |"


def _default(title: str, name: str, default: str | None) -> str:
    if (title, name) == ("node2dm", "state_dir"):
        return "the working directory at start"
    if default is None:
        return "must be set"
    return f"`{default}`" if default else "empty"


def metrics_md() -> str:
    """Render docs/metrics.md: a row for each metric."""
    lines = [
        "# Metrics",
        "",
        "This page is written by `make docs`, from the code.",
        "",
        "`/metrics` of `web` has these metrics, if the extra `metrics` is installed.",
        "Most of them are lines of the [stats](stats.md), named as Prometheus recommends. Counters",
        "start at 0 when the process starts. The standard metrics of a process, such as",
        "`process_cpu_seconds_total`, are included.",
        "",
        "| metric | type | labels | meaning | line of the stats |",
        "|---|---|---|---|---|",
    ]
    for name, (labels, text) in names.OTHERS.items():
        lines += [_metric_row(name, "gauge", labels, text, "")]
    for line, (labels, text) in names.REASONS.items():
        lines += [_metric_row(f"{line}_total", "counter", labels, text, f"{line}.REASON")]
    for name, (label, text, of) in names.LABELLED.items():
        lines_of = ", ".join(f"{label}={value}: {line}" for value, line in of.items())
        lines += [_metric_row(f"{name}_total", "counter", ("route", label), text, lines_of)]
    for table, labels in ((names.ROUTE, ("route",)), (names.PROCESS, ())):
        for line, (name, text) in table.items():
            kind, end = ("counter", "_total") if is_counter(line) else ("gauge", "")
            lines += [_metric_row(name + end, kind, labels, text, line)]
    for name, text in names.HISTOGRAMS.values():
        lines += [_metric_row(name, "histogram", ("route",), text, "")]
    return "\n".join(lines) + "\n"


def _metric_row(name: str, kind: str, labels: tuple[str, ...], text: str, line: str) -> str:
    return f"| `node2dm_{name}` | {kind} | {', '.join(labels)} | {text} | {line} |"


Transition = tuple[enum.Enum, enum.Enum, str]
"""A state, the next one, and what happens in between."""


def state_diagram(transitions: Iterable[Transition]) -> list[str]:
    """Draw a machine in Mermaid's language; the first state named is the initial one."""
    labels: dict[tuple[enum.Enum, enum.Enum], list[str]] = {}
    for before, after, label in transitions:
        labels.setdefault((before, after), []).append(label)
    states = [*dict.fromkeys(state for pair in labels for state in pair)]
    lines = [f'    state "{state.value}" as {state.name}' for state in states]
    lines += [f"    [*] --> {states[0].name}"]
    for (before, after), found in labels.items():
        lines += [f"    {before.name} --> {after.name}: {' / '.join(found)}"]
    return ["```mermaid", "stateDiagram-v2", *lines, "```"]


def session_transitions() -> list[Transition]:
    """Every transition of a session."""
    return [(old, new, event.value) for (old, event), new in session.TRANSITIONS.items()]


OPENING = {Effect.OPEN: "{}", Effect.COUNT: "{} (the fifth push)", Effect.EXTEND: "{} (later end)"}
"""How an effect that opens the circuit breaker, or keeps it open, stands in the diagram."""


def breaker_transitions() -> list[Transition]:
    """Every transition of a circuit breaker: those of its table, and the end of a pause."""
    found: list[Transition] = [(BreakerState.OPEN, BreakerState.HALF_OPEN, "the pause is over")]
    for event, rules in circuit_breaker.TABLE.items():
        for state, rule in rules.items():
            name = event.name.lower()
            if rule.effect in OPENING:
                found.append((state, BreakerState.OPEN, OPENING[rule.effect].format(name)))
            elif rule.effect is Effect.CLOSE:
                found.append((state, BreakerState.CLOSED, name))
    return sorted(found, key=lambda each: [*BreakerState].index(each[0]))


def architecture_md() -> str:
    """The page as it is, with its two diagrams drawn anew."""
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    diagrams = iter([state_diagram(session_transitions()), state_diagram(breaker_transitions())])
    block = re.compile(r"^```mermaid\n.*?^```$", re.MULTILINE | re.DOTALL)
    return block.sub(lambda _: "\n".join(next(diagrams)), page)


def main() -> None:
    """Write the files."""
    (ROOT / "docs/metrics.md").write_text(metrics_md(), encoding="utf-8")
    (ROOT / "etc/config.ini").write_text(config_ini(), encoding="utf-8")
    (ROOT / "docs/architecture.md").write_text(architecture_md(), encoding="utf-8")
    (ROOT / "docs/configuration.md").write_text(configuration_md(), encoding="utf-8")


if __name__ == "__main__":
    main()
