"""No name or log text that the vocabulary replaced is left. Delete this once 1.0 is out."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "node2dm_tw"

REPLACED = {
    "": """
        Way make_way Surroundings Listening read_some read_dry _arriving TURN WaitingRoom _Sleeper
        _ring Troubles trouble Pace pace stretched CROWDED _flows RAMP SHARE halve _same_trouble
        FOREIGN FEWEST ANSWERS is_in_vain _short_lives _is_present happening Locked
        Feedback Hook Report HOLD _go_on _give_up
        ENDINGS never_falls HEAP_LOOK SHOWN _believe _STAND_INS embed names_device _blank
        SignInAgain Refused _USUAL _UNUSUAL _NOT_OURS _UNASKED _IMPLIED OUR_FAULT Posting
        _should_get_on in_words QUEUE_MARK STALL NEWS_WAIT all_arrived Exchange Views Admin Sources
        Pages _Page _Leaf _Folder _Quiet PATIENCE Answer Gate Gateway on_reported
    """,
    "app": "opened _fit",
    "callbacks": "answered forget",
    "cli": "Run Screen say done",
    "config": "Faults embed shown opened",
    "core.push": "cut LEVELS",
    "core.stats": "Stats.route",
    "delivery": """
        _act _try_later _fault _halt _tell_alarm _nothing_to_wait_for admits
        _takes_a_place _is_over _is_in_time Limits wake _sleepers Window.good
        Window.limit
        Window.reopen spend saved BadDeviceAlarm.answered BadDeviceAlarm.holds young
        Session.unavailable Session.answered why _bad_epoch note
    """,
    "emulator": """
        Call Screen news Phone Journal Google FaultyAnswers Places prepare differing Tokens.succeed
        flag whole fraction moment anything texts listed one_of wrong
    """,
    "http": """
        Transfer.aim Transfer.once Transfer.clear has_head scout _meet learn _tell _reap _retire
        _watch follow settled give_up serve gone
    """,
    "intake": "Lines Route",
    "providers": "ServiceAccount Key signed use forget",
}
"""Names, or ``Class.attribute``, that no definition below the package of the key may have."""

LOG_TEXTS = (
    "takes pushes at UDP",
    "are no push",
    "were taken up",
    "wait in {path}",
    "cannot be taken away",
    "gets on again",
    "fewer answers blame",
    "was not taken and waits",
    "callback was given up",
    "it wants the extra",
    "is wanted",
    "stands there twice",
    "is not built yet",
)

MODULES = {
    ".".join(file.relative_to(PACKAGE).with_suffix("").parts): file
    for file in sorted(PACKAGE.rglob("*.py"))
}


def definitions(tree: ast.AST, owner: str = "") -> Iterator[str]:
    """Name every class, function, constant and attribute, as ``Class.attribute`` within a class."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.ClassDef(name=name):
                yield name
                yield from definitions(node, f"{name}.")
                continue
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield f"{owner}{name}"
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
                        yield f"{owner}{inner.attr}"
                continue
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                yield f"{owner}{name}"
        yield from definitions(node, owner)


@pytest.mark.parametrize("module", MODULES)
def test_no_replaced_name_is_left(module):
    """The qualified names of every module, against what the vocabulary replaced."""
    replaced = {
        name
        for scope, names in REPLACED.items()
        if not scope or module == scope or module.startswith(f"{scope}.")
        for name in names.split()
    }
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    names = {(name, name.rpartition(".")[2]) for name in definitions(tree)}
    assert not {f"{module}:{full}" for full, last in names if {full, last} & replaced}


def test_no_replaced_log_text_is_left():
    """Log lines, errors and documentation say it in the new words."""
    pattern = re.compile("|".join(map(re.escape, LOG_TEXTS)))
    files = [*MODULES.values(), *(PACKAGE.parent / "docs").glob("*.md")]
    found = [
        f"{file.name}:{number}: {line.strip()}"
        for file in files
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found
