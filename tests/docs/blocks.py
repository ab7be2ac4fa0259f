"""How a fenced block is checked, by its language: commands run, data is read."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

from node2dm_tw.config.ini import ConfigErrors
from node2dm_tw.config.load import load
from node2dm_tw.core import json_form, push
from node2dm_tw.providers.c2dm import C2DM
from node2dm_tw.providers.fcm import FCM
from tests.docs.demo import Demo
from tests.docs.pages import NOT_RUN, ROOT, RUN_BY, Block
from tests.support.waiting import wait_until

PACKAGE = ROOT / "node2dm_tw"
OUTPUT = "text"
"""The language of what a command prints; nothing of it is run."""

_CHANGES_THE_MACHINE = re.compile(
    r"\b(sudo|su|apt|apt-get|systemctl|useradd|chown|mount|docker|pip install|pkill|killall|reboot"
    r"|initctl|sysctl|setcap)\b|[ >=](/etc|/usr|/var|/opt|/srv)/"
)
_SECRET = "whsec_bm9kZTJkbV90dyB0ZXN0cyBuZWVkIHNlY3JldHM=\n"
"""What is in the files that a configuration on a page names: good as password and secret."""

_FILE_OPTION = re.compile(
    r"^(\w+_file|service_account|ca_file)( *= *)(?:\S*/)?(\S+)$", re.MULTILINE
)
_DEMO_DEFAULTS = {"username": "sender@example.com", "password": "x", "service_account": __file__}


def marker_faults(block: Block) -> list[str]:
    """Return what is wrong with a block's tag and marker."""
    if not block.language:
        return ["the block has no language"]
    if block.marker == NOT_RUN:
        return [] if block.note else ["the marker gives no reason"]
    if block.marker == RUN_BY:
        return [] if has_test(block.note) else [f"there is no test {block.note}"]
    if block.language in (OUTPUT, *READERS, *RUNNERS):
        return []
    return [f"nothing runs {block.language}: the block needs a marker"]


def has_test(name: str) -> bool:
    """Tell whether `tests/file.py::test` names a test that exists."""
    path, _, function = name.partition("::")
    if not function or not (ROOT / path).is_file():
        return False
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef) and node.name == function for node in tree.body)


def read_ini(text: str, folder: Path) -> None:
    """Load a configuration, or a part of one.

    Options without a section belong to [node2dm]. Without a route it gets one, and with an
    [emulator] that is made here, options that must be set have values. Each file that an option
    names is there.
    """
    if "[node2dm]" not in text:
        text = f"[node2dm]\n{text}"
    if not re.search(r"^\[(c2dm|fcm)[]:]", text, re.MULTILINE):
        text += "\n[c2dm]\n"
    if "[emulator]" not in text:
        text += "\n[emulator]\n"
    for _, _, name in _FILE_OPTION.findall(text):
        (folder / name).write_text(_SECRET, encoding="utf-8")
        (folder / name).chmod(0o600)
    file = folder / "page.ini"
    file.write_text(_FILE_OPTION.sub(r"\1\2\3", text), encoding="utf-8")
    load(file, folder, lambda *_: _DEMO_DEFAULTS, lambda _: None)


def read_json(text: str, folder: Path) -> None:
    """Parse one JSON text, or one on each line; what has a target must be a push."""
    try:
        values = [json.loads(text)]
    except json.JSONDecodeError:
        values = [json.loads(line) for line in text.splitlines()]
    for value in values:
        if isinstance(value, dict) and any(target in value for target in push.TARGETS):
            _check_push(value)


def _check_push(fields: dict[str, object]) -> None:
    """Hold a push to the rules of FCM, or of C2DM where it has the field that only C2DM knows."""
    service = C2DM("") if "delay_while_idle" in fields else FCM("", lambda: 0.0)
    try:
        service.validate(json_form.read_json(json.dumps(fields).encode(), 0.0)[1])
    except push.InvalidPush as error:
        raise ValueError(f"the gateway would not take this push: {error.detail}") from None


@cache
def _logged() -> list[re.Pattern[str]]:
    """Return a pattern of each line that the package logs, but of those that are all values."""
    found = []
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                levels = ("debug", "info", "warn", "error", "critical", "failure")
                event = node.args[0].value if node.args and _is_text(node.args[0]) else ""
                if node.func.attr in levels and re.search(r"[a-z]{3}", re.sub("{.*?}", "", event)):
                    parts = re.split(r"{.*?}", event)
                    found.append(re.compile(".+".join(re.escape(part) for part in parts)))
    return found


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def run_shell(text: str, demo: Demo) -> None:
    """Run commands, but none that would change the machine of whoever runs the tests."""
    if found := _CHANGES_THE_MACHINE.search(text):
        raise ValueError(f"not run, for {found[0].strip()}: the block needs a marker")
    demo.run(["bash", "-euo", "pipefail", "-c"], text)


def run_python(text: str, demo: Demo) -> None:
    """Run a program."""
    demo.run([sys.executable, "-c"], text)


def find_log(text: str, demo: Demo) -> None:
    """Find each line in the log of the demo, or among the lines that the code can log."""
    for line in text.splitlines():
        message = re.sub(r"^\S+ \[[^]]*\] ", "", line)
        if not any(event.fullmatch(message) for event in _logged()):
            try:
                demo.start()
                wait_until(lambda: message in demo.gateway.log, "it is logged", 5.0)  # noqa: B023
            except AssertionError:
                raise ValueError(f"the code logs no such line: {line}") from None


READERS: dict[str, Callable[[str, Path], None]] = {
    "ini": read_ini,
    "json": read_json,
}
RUNNERS: dict[str, Callable[[str, Demo], None]] = {
    "sh": run_shell,
    "python": run_python,
    "log": find_log,
}


def content_faults(block: Block, demo: Demo) -> list[str]:
    """Run or read a block without a marker; return what was wrong."""
    try:
        if read := READERS.get(block.language):
            read(block.text, demo.gateway.folder)
        elif run := RUNNERS.get(block.language):
            run(block.text, demo)
    except (ValueError, ConfigErrors, subprocess.TimeoutExpired) as error:
        return [str(error)]
    return []
