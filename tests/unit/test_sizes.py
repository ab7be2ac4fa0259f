"""Functions fit a screen and files stay short: the table of sizes, and the limits.

`pytest -s tests/unit/test_sizes.py` prints the table.
"""

import ast
import io
import statistics
import tokenize
from pathlib import Path

import pytest

MEDIAN, PERCENTILE_90 = 6, 14
LONGEST_FUNCTION = 50
LONGEST_FILE = 420

PACKAGE = Path(__file__).parents[2] / "node2dm_tw"
NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def lines_of_code(text):
    """Return the numbers of the lines that hold code or text, not only a comment."""
    found = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NO_CODE:
            found.update(range(token.start[0], token.end[0] + 1))
    return found


def body_sizes(text):
    """Yield the name of each function, and the lines of its body without docstring."""
    code = lines_of_code(text)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, Function):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            lines = {n for part in body for n in range(part.lineno, part.end_lineno + 1)}
            yield node.name, len(lines & code)


def percentile(sizes, percent):
    """Return the size that `percent` of all do not exceed."""
    ordered = sorted(sizes)
    return ordered[-(-len(ordered) * percent // 100) - 1]


@pytest.fixture(scope="module")
def sources():
    """The text of each file of the package, by its path."""
    return {
        str(file.relative_to(PACKAGE)): file.read_text(encoding="utf-8")
        for file in sorted(PACKAGE.rglob("*.py"))
    }


def test_functions_fit_a_screen(sources):
    """Most have a few lines; none has more than a screen shows."""
    found = [
        (size, f"{path}:{name}")
        for path, text in sources.items()
        for name, size in body_sizes(text)
    ]
    sizes = [size for size, _ in found]
    median, most = statistics.median(sizes), percentile(sizes, 90)
    longest = sorted(found, reverse=True)
    print(f"{len(sizes)} functions: median {median:g}, 90th percentile {most}")
    print(*(f"{size:5} {name}" for size, name in longest[:10]), sep="\n")
    assert median <= MEDIAN
    assert most <= PERCENTILE_90
    assert longest[0][0] <= LONGEST_FUNCTION, longest[0]


def test_files_are_short(sources):
    """A longer file is two."""
    lengths = sorted(((text.count("\n"), path) for path, text in sources.items()), reverse=True)
    print(*(f"{length:5} {path}" for length, path in lengths[:10]), sep="\n")
    assert lengths[0][0] <= LONGEST_FILE, lengths[0]


def test_only_code_counts():
    """Comments, blank lines and the docstring do not; a text over several lines does."""
    text = '''
def function():
    """Docstring."""
    # A comment.
    value = """
    two
    """

    return value


def empty():
    """Docstring."""
'''
    assert list(body_sizes(text)) == [("function", 4), ("empty", 0)]
