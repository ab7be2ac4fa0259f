"""Who may know whom: the house's rules on imports, read off the source."""

import ast
import sys
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "node2dm_tw"
OURS = PACKAGE.name

ALLOWED = {
    "core": set(),
    "state": {"core"},
    "config": {"core"},
    "http": {"core"},
    "providers": {"core", "state"},
    "queues": {"core", "state"},
    "delivery": {"core", "state", "queues.interface", "providers.interface", "http.interface"},
    "intake": {"core", "queues.interface", "providers.interface"},
    "callbacks": {"core", "state", "callback_target", "http.interface"},
    "callback_target": {"core", "state", "http.interface"},
    "outcomes": {"core", "state"},
    "admin": {"core"},
    "client": set(),
    "client_http": {"client"},
    "cli": {"client", "client_http"},
    "emulator": {"config.ini"},
}
"""
The parts and modules that each part may import beside its own. Only `app` may import everything;
nobody imports `app`.
"""

STANDARD_LIBRARY_ONLY = {"client", "core.push", "core.json_form"}

WIRING = ("app.", "cli.", "client", "emulator.server.", "emulator.phone.", "emulator.__main__")
"""How the names of the modules begin that may ask for the reactor or the time."""


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


@pytest.mark.parametrize("module", sorted(set(MODULES) - {""}))
def test_a_module_knows_only_whom_it_may(module):
    """It imports the parts that its own part may know."""
    part = module.partition(".")[0]
    if part == "app":
        return
    assert part in ALLOWED, "a new part needs a rule here"
    known = {part, *ALLOWED[part]}
    assert not {
        name
        for name in ours(module)
        if not any(name == each or name.startswith(f"{each}.") for each in known)
    }


def test_only_the_emulated_gateway_imports_the_emulator():
    """Whoever else needs Google's side talks to it by the network."""
    importers = {
        module
        for module in MODULES
        if not module.startswith("emulator")
        and any(name.startswith("emulator") for name in ours(module))
    }
    assert importers == {"app.emulated"}


@pytest.mark.parametrize(
    "module", [name for name in MODULES if name.startswith("emulator.google.")]
)
def test_the_rules_of_google_do_no_io(module):
    """They know values and settings, and neither the wire nor files."""
    assert not {
        name
        for name in ours(module)
        if not name.startswith(("emulator.google.", "emulator.settings"))
    }
    outside = {name.partition(".")[0] for name in imported(module)}
    assert not outside & {"asyncio", "os", "pathlib", "socket", "ssl", "twisted", "urllib.request"}


SAME_NAMES = {
    "C2DM": "a push service, and the emulator's side of it",
    "FCM": "the same",
    "Options": "the command lines of the two plugins; Twisted names the class",
    "Push": "the gateway's, and the one of the client that applications copy",
}
"""Class names that stand more than once in the package, and why."""


def test_no_class_name_stands_twice():
    """A reader who meets a name knows which class is meant."""
    names = Counter(
        node.name
        for file in MODULES.values()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert {name for name, times in names.items() if times > 1} == set(SAME_NAMES)


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
    assert not {module for module in culprits if not module.startswith(WIRING)}


def test_the_plugin_imports_nothing_of_ours():
    """`twistd --help` must not have to import the gateway."""
    plugin = PACKAGE.parent / "twisted/plugins/node2dm_plugin.py"
    tree = ast.parse(plugin.read_text(encoding="utf-8"))
    froms = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert froms == ["twisted.application.service"]
    assert not any(isinstance(node, ast.Import) for node in ast.walk(tree))
    assert not (PACKAGE.parent / "twisted/__init__.py").exists()
    assert not (PACKAGE.parent / "twisted/plugins/__init__.py").exists()
