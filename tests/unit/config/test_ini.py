"""INI files to typed settings."""

import os
import re
from configparser import RawConfigParser
from pathlib import Path

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from node2dm_tw.config import converters, ini
from node2dm_tw.config.ini import ConfigErrors, option


@attrs.frozen
class Sample:
    """A section with each kind of option."""

    place: Path = option(converters.path, None, "a place", shown=True)
    count: int = option(converters.number(1, 9), "3", "how many", shown=True)
    note: str | None = option(converters.text, "", "a note", shown=True)
    word: str | None = option(converters.text, "", "a word that nobody may see", secret=True)
    most: int | None = option(converters.number(1, 9), "4", "how many at most", optional=True)


def read_sample(tmp_path, text, **more):
    file = tmp_path / "sample.ini"
    file.write_text(text, encoding="utf-8")
    errors = []
    found = ini.section(Sample, "sample", ini.read(file), tmp_path, errors, **more)
    return found, errors


def test_defaults_and_given_values(tmp_path):
    """What the file leaves out has its default; an empty default is None."""
    found, errors = read_sample(tmp_path, "[sample]\nplace = here\ncount = 5\n")
    assert errors == []
    assert found == Sample(place=tmp_path / "here", count=5)
    assert (found.note, found.word, found.most) == (None, None, 4)


def test_defaults_can_be_given_by_the_caller(tmp_path):
    """They stand where the option's own would, and a section that is absent has them all."""
    found, errors = read_sample(tmp_path, "", defaults={"place": "/there", "count": "9"})
    assert errors == []
    assert found == Sample(place=Path("/there"), count=9)


def test_every_error_is_a_line_with_section_option_value_and_what_is_expected(tmp_path):
    """None hides another."""
    text = "[sample]\ncount = many\nnote =\ncolour = red\nlater = 1\n"
    found, errors = read_sample(tmp_path, text, not_implemented=("later",))
    assert found is None
    assert errors == [
        "[sample] place: expected a place (required)",
        "[sample] count = many: expected a whole number from 1 to 9",
        "[sample] colour: unknown option",
        "[sample] later: is not implemented yet; remove it",
    ]


def test_an_empty_value_where_one_is_needed(tmp_path):
    """Empty is a value only where it is the default."""
    _, errors = read_sample(tmp_path, "[sample]\nplace =\ncount =\n")
    assert errors == [
        "[sample] place = : expected a place, not empty",
        "[sample] count = : expected a value; leave the line out for the default",
    ]


def test_an_empty_value_where_none_is_meant(tmp_path):
    """It takes the default away, where there may be none."""
    found, errors = read_sample(tmp_path, "[sample]\nplace = x\nmost =\n")
    assert errors == []
    assert found.most is None


@pytest.mark.parametrize(
    "content",
    [b" 100%s \r\n", b" 100%s \n\n", b" 100%s ", b"\xef\xbb\xbf 100%s \r\n"],
    ids=["CR LF", "two LF", "as it is", "byte-order mark"],
)
def test_a_secret_comes_from_its_file(tmp_path, content):
    """NAME_file names it; a byte-order mark and line ends at the end are no part of it."""
    (tmp_path / "word").write_bytes(content)
    found, errors = read_sample(tmp_path, "[sample]\nplace = x\nword_file = word\n")
    assert errors == []
    assert found.word == " 100%s "


def open_descriptors():
    return len([*Path("/proc/self/fd").iterdir()])


def make_files(folder):
    """A file for each way in which one cannot hold a secret, named for it."""
    for name, content in {
        "bytes": b"\xff",
        "utf16": "hush".encode("utf-16"),
        "empty": b"\r\n",
        "lines": b"hush\nhush\n",
        "nul": b"hu\0sh",
        "large": b"x" * 65_537,
    }.items():
        (folder / name).write_bytes(content)
    os.mkfifo(folder / "fifo")
    (folder / "folder").mkdir()


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("nowhere", "a file that can be read (No such file or directory: {})"),
        ("folder", "a file that can be read (Not a regular file but a directory: {})"),
        ("fifo", "a file that can be read (Not a regular file: {})"),
        ("large", "a file that can be read (Larger than 65536 bytes: {})"),
        ("bytes", "a file in UTF-8 ({})"),
        ("utf16", "a file in UTF-8 ({})"),
        ("empty", "a file that is not empty ({})"),
        ("lines", "one line without control characters"),
        ("nul", "one line without control characters"),
    ],
)
def test_a_file_that_holds_no_secret(tmp_path, file, expected):
    """The error names the option and the file, not what is in it; a FIFO is not waited for."""
    make_files(tmp_path)
    descriptors = open_descriptors()
    found, errors = read_sample(tmp_path, f"[sample]\nplace = x\nword_file = {file}\n")
    assert found is None
    assert errors == [f"[sample] word_file = {file}: expected {expected.format(tmp_path / file)}"]
    assert open_descriptors() == descriptors


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ("word = hush\nword_file = word", "word: expected either word or word_file, not both"),
        ("word = hush\n hush", "word: expected one line without control characters"),
        ("note_file = word", "note_file: unknown option; did you mean word_file?"),
        ("wrod_file = hush", "wrod_file: unknown option; did you mean word_file?"),
    ],
)
def test_errors_about_secrets(tmp_path, lines, error):
    """Given twice, over two lines, in a file where there is no secret: its value is not shown."""
    (tmp_path / "word").write_text("x", encoding="utf-8")
    found, errors = read_sample(tmp_path, f"[sample]\nplace = x\n{lines}\n")
    assert found is None
    assert errors == [f"[sample] {error}"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("many", "many"),
        ("5\n hush", "5..."),
        ("\x1b[31m", r"\x1b[31m"),
        ("\u202e", r"\u202e"),
        ("x" * 100, "x" * 80 + "..."),
        ('{"private_key": "hush"}', "..."),
        ("-----BEGIN PRIVATE KEY-----", "..."),
        ("redis:/user:hu/sh@host/1", "***@host/1"),
        ("redis://user:hush@host/1", "redis://***@host/1"),
        ("redis://user:hu/sh@hush@host/1", "redis://***@host/1"),
        ("user:hush@host", "***@host"),
        ("http://host/?key=hush", "http://host/"),
    ],
)
def test_a_wrong_value_is_shown_in_one_line(tmp_path, value, shown):
    """Escaped, cut, and without what may be secret, such as an option indented by mistake."""
    _, errors = read_sample(tmp_path, f"[sample]\nplace = x\ncount = {value}\n")
    assert errors == [f"[sample] count = {shown}: expected a whole number from 1 to 9"]


def test_a_secret_is_not_in_the_repr(tmp_path):
    """Nor is it in the line about a fault."""
    found, _ = read_sample(tmp_path, "[sample]\nplace = x\nword = hush\n")
    assert found.word == "hush"
    assert "hush" not in repr(found)


def test_percent_and_case_mean_nothing_special(tmp_path):
    """A password with `%(x)s` is that password, and options are told apart by case."""
    found, errors = read_sample(tmp_path, "[sample]\nplace = x\nnote = 5%(x)s\n")
    assert (found.note, errors) == ("5%(x)s", [])
    _, errors = read_sample(tmp_path, "[sample]\nplace = x\nNote = 5\n")
    assert errors == ["[sample] Note: unknown option; did you mean note?"]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "No such file or directory"),
        (b"[a]\nx = hush\xe9\n", "line 2: byte 0xe9: it is not UTF-8: save the file as UTF-8"),
        ("[a]\nx = hush\n".encode("utf-16"), "it is not UTF-8 but UTF-16: save it as UTF-8"),
        ("[a]\nx = hush\n".encode("utf-16-le"), "line 1: a NUL byte: expected text in UTF-8"),
        (b"[a]\nx = hush\n\xef\xbb\xbf[b]\n", "line 3: a byte-order mark: expected none but"),
        (b"[a]\rx = hush\r", "its lines end in CR alone: expected LF or CR LF"),
        (b"hush = hush\nhush = hush\n", "line 1: expected a [section] first"),
        (b"[a]\nx = 1\nx = hush\n", "line 3: [a] x is defined twice, first in line 2"),
        (b"[a]\n[a]\n", "line 2: [a] is defined twice, first in line 1"),
        (b"[a]\npassword hush\n", "line 2: expected option = value"),
        (b"[a]\npassword hush = hush\n", "line 2: expected option = value"),
        (b"[a]\n= hush\n", "line 2: expected option = value"),
        (b"[hush\nx = hush\n", "line 1: expected [section]"),
        (b"[]\nx = hush\n", "line 1: expected [section]"),
        (b"[a] # hush\n", "line 1: expected [section] alone; comments need a line of their own"),
        (b"[a] x = hush\n", "line 1: expected [section] alone; options need a line of their own"),
    ],
)
def test_what_is_no_ini_file_is_one_error(tmp_path, content, part):
    """It names the file and fits a line."""
    file = tmp_path / "x.ini"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigErrors) as raised:
        ini.read(file)
    (error,) = raised.value.errors
    assert str(file) in error
    assert part in error
    assert "\n" not in error
    assert "hush" not in error


def test_every_line_that_cannot_be_read_is_named(tmp_path):
    """Not only the first; in a file that is no INI file at all, not all of them."""
    file = tmp_path / "x.ini"
    file.write_text("[a]\none\nx = 1\ntwo\nx = 2\n[a]\n[b\n", encoding="utf-8")
    with pytest.raises(ConfigErrors) as raised:
        ini.read(file)
    numbers = [error.split(": ")[1] for error in raised.value.errors]
    assert numbers == ["line 2", "line 4", "line 5", "line 6", "line 7"]
    file.write_text("[a]\n" + "nonsense\n" * 1_000, encoding="utf-8")
    with pytest.raises(ConfigErrors, match="980 more lines") as raised:
        ini.read(file)
    assert len(raised.value.errors) == 21


PIECES = st.sampled_from([" ", "\t", "\n", "\r\n", "\n ", "\n\t", "[a]", "[b]", *"[]xy=:#;\xa0"])


@given(st.lists(PIECES, max_size=30).map("".join))
def test_a_file_without_errors_is_read_as_python_reads_it(text):
    """But for a section that is indented, which never continues an option here."""
    found = ini.IniFile(text)
    theirs = RawConfigParser(strict=True, default_section="")
    theirs.optionxform = str
    assume(not found.errors)
    assume(not re.search(r"\n\s+\[", text))
    theirs.read_string(text)
    ours = {title: dict(found.items(title)) for title in found.sections()}
    assert ours == {title: dict(theirs.items(title)) for title in theirs.sections()}


def test_options_that_are_indented(tmp_path):
    """All alike, or below a comment, they are options; deeper than the one before, an error."""
    found, errors = read_sample(tmp_path, "  [sample]\n\tplace = x\n\t# y\n\tcount = 5\n")
    assert (found.count, errors) == (5, [])
    text = "[sample]\nplace = x\n\tcount = 5\n\tword = hush\nnote = a\n"
    assert read_sample(tmp_path, text) == (
        None,
        [
            f"[sample] {name}: expected at the beginning of a line; indented, it is a part of place"
            for name in ("count", "word")
        ],
    )


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("count = 5 ; five", "count = 5 ; five: expected a whole number from 1 to 9; {}"),
        ("count = 5 #five", "count = 5 #five: expected a whole number from 1 to 9; {}"),
        ("count = ; five", "count = ; five: expected a whole number from 1 to 9; {}"),
        ("place = x # here", "place = x # here: expected a value alone; {}"),
        ("note = x\t;", "note = x\\t;: expected one line without control characters; {}"),
        ("note = x ; y", "note = x ; y: expected a value alone; {}"),
        ("count = 50 ; fifty", "count = 50 ; fifty: expected a whole number from 1 to 9"),
        ("count = '5'", "count = '5': expected a whole number from 1 to 9; without quotes"),
        ('place = "x"', 'place = "x": expected a value without quotes'),
        ("word_file = here ; x", "word_file = here ; x: expected a file that can be read ({}"),
    ],
)
def test_a_comment_behind_a_value_and_quotes_round_one(tmp_path, line, error):
    """They are an error, even where any text would do; only what they break is laid on them."""
    (tmp_path / "here").write_text("hush", encoding="utf-8")
    place = "" if line.startswith("place") else "place = x\n"
    _, (found,) = read_sample(tmp_path, f"[sample]\n{place}{line}\n")
    hint = "comments need a line of their own"
    assert found.startswith(f"[sample] {error.partition('{}')[0]}")
    assert found.endswith(hint) == ("{}" in error)


@pytest.mark.parametrize("text", ["x ; y", "x # y", '"x"', "# x", "x#y"])
def test_a_secret_may_look_like_a_comment(tmp_path, text):
    """It is taken as it is."""
    found, errors = read_sample(tmp_path, f"[sample]\nplace = x;y#z\nword = {text}\n")
    assert (found.word, errors) == (text, [])


def test_a_file_that_begins_with_a_byte_order_mark(tmp_path):
    """Some editors write one; it means nothing."""
    file = tmp_path / "x.ini"
    file.write_bytes(b"\xef\xbb\xbf[a]\nx = 1\n")
    assert ini.read(file).get("a", "x") == "1"


def test_a_configuration_that_is_no_regular_file(tmp_path):
    """It is an error, and the start does not wait for who writes into a FIFO."""
    os.mkfifo(tmp_path / "fifo")
    for file in (tmp_path, tmp_path / "fifo"):
        with pytest.raises(ConfigErrors, match="Not a regular file"):
            ini.read(file)
