"""Who may know whom: the house's rules on imports, read off the source."""

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "node2dm_tw"
OURS = PACKAGE.name

TOOLS = {"backoff", "files", "logs", "response", "untracked"}
"""Helpers that import nothing of ours but one another; anybody but the purest may use them."""

ALLOWED = {
    "push": set(),
    "stats": set(),
    "backoff": set(),
    "response": set(),
    "files": {"logs"},
    "logs": set(),
    "log_output": {"logs"},
    "hangups": set(),
    "untracked": set(),
    "descriptors": set(),
    "converters": set(),
    "ini_lines": {"converters"},
    "ini": {"converters", "ini_lines"},
    "process": {"logs"},
    "statedir": {"files"},
    "sections": {"converters", "ini", "logs"},
    "config": {"converters", "ini", "ini_lines", "sections"},
    "config_text": {"config", "converters", "ini_lines"},
    "http": {"http"} | TOOLS,
    "providers": {"providers", "push"} | TOOLS,
    "queues": {"queues", "push", "stats"} | TOOLS,
    "delivery": {
        "delivery",
        "queues.interface",
        "providers.interface",
        "http.interface",
        "push",
        "stats",
    }
    | TOOLS,
    "intake": {"intake", "queues.interface", "providers.interface", "push", "stats"} | TOOLS,
    "callbacks": {"callback_target", "http.interface", "queues.spool", "push", "stats"} | TOOLS,
    "callback_target": {"http.interface"} | TOOLS,
    "admin": {"admin", "stats"} | TOOLS,
    "emulator": {"emulator", "converters", "ini", "ini_lines"},
    "client": set(),
    "routes": {"config", "sections", "delivery", "http", "intake", "providers", "queues"}
    | {"callbacks", "push", "stats"}
    | TOOLS,
    "push_bulk": {"client", "push_rows", "push_screen"},
    "push_command": {"client", "push_bulk", "push_gateway", "push_options"}
    | {"push_rows", "push_screen"},
    "push_gateway": {"client"},
    "push_options": {"client", "push_gateway"},
    "push_rows": {"client"},
    "push_screen": set(),
}
"""For each part, the parts and modules it may import; `service` alone may import everything."""

STANDARD_LIBRARY_ONLY = {"client", "push"}

WIRING = {"service", "tap", "client", "phone", "push_command", "__main__"}
"""Last parts of the names of modules that make a process, and ask for the reactor or the time."""


def name_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {name_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def imported(module: str) -> set[str]:
    """Every module that this one's source imports, at its top or in a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            assert node.module is not None
            found |= {
                f"{node.module}.{alias.name}"
                if f"{node.module}.{alias.name}".removeprefix(f"{OURS}.") in MODULES
                else node.module
                for alias in node.names
            }
    return found


def ours(module: str) -> set[str]:
    """What `module` imports of this package, by its name within it."""
    names = {name for name in imported(module) if name.partition(".")[0] == OURS}
    return {name.removeprefix(OURS).removeprefix(".") for name in names}


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"", "service"}))
def test_a_module_knows_only_whom_it_may(module):
    """It imports the parts that its own part may know, and none of `service`."""
    part = module.partition(".")[0]
    assert part in ALLOWED, "a new part of the house needs a rule here"
    strangers = {
        name
        for name in ours(module)
        if not any(name == known or name.startswith(f"{known}.") for known in ALLOWED[part])
    }
    assert not strangers


def test_imports_run_in_no_circle():
    """There is an order in which every module comes after those it imports."""
    try:
        TopologicalSorter({module: ours(module) - {""} for module in MODULES}).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("module", sorted(STANDARD_LIBRARY_ONLY & set(MODULES)))
def test_what_others_may_take_along_needs_nothing(module):
    """The standard library is enough for it."""
    foreign = {name.partition(".")[0] for name in imported(module)} - {OURS}
    assert foreign <= set(sys.stdlib_module_names)


def test_time_and_reactor_are_handed_in():
    """Only the modules that wire a process ask for the reactor or the time themselves."""
    culprits = {
        module
        for module in MODULES
        if {"twisted.internet.reactor", "time"} & imported(module)
        or "from twisted.internet import reactor" in MODULES[module].read_text(encoding="utf-8")
    }
    assert {name.rpartition(".")[2] for name in culprits} <= WIRING


def test_the_plugin_imports_nothing_of_ours():
    """`twistd --help` must not have to import the gateway."""
    plugin = PACKAGE.parent / "twisted/plugins/node2dm_plugin.py"
    tree = ast.parse(plugin.read_text(encoding="utf-8"))
    froms = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert froms == ["twisted.application.service"]
    assert not any(isinstance(node, ast.Import) for node in ast.walk(tree))
    assert not (PACKAGE.parent / "twisted/__init__.py").exists()
    assert not (PACKAGE.parent / "twisted/plugins/__init__.py").exists()
