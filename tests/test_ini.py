"""INI files to typed settings."""

import contextlib
from ipaddress import ip_network
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node2dm_tw import ini
from node2dm_tw.ini import Faults, option

FOLDER = Path("/folder")


@attrs.frozen
class Sample:
    """A section with each kind of option."""

    place: Path = option(ini.path, None, "a place")
    count: int = option(ini.number(1, 9), "3", "how many")
    note: str | None = option(ini.text, "", "a note")
    word: str | None = option(ini.text, "", "a word that nobody may see", secret=True)
    most: int | None = option(ini.number(1, 9), "4", "how many at most", optional=True)


def read_sample(tmp_path, text, **more):
    file = tmp_path / "sample.ini"
    file.write_text(text, encoding="utf-8")
    faults = []
    found = ini.section(Sample, "sample", ini.read(file), tmp_path, faults, **more)
    return found, faults


def test_defaults_and_given_values(tmp_path):
    """What the file leaves out has its default; an empty default is None."""
    found, faults = read_sample(tmp_path, "[sample]\nplace = here\ncount = 5\n")
    assert faults == []
    assert found == Sample(tmp_path / "here", 5, None, None, 4)


def test_defaults_can_be_given_by_the_caller(tmp_path):
    """They stand where the option's own would, and a section that is absent has them all."""
    found, faults = read_sample(tmp_path, "", defaults={"place": "/there", "count": "9"})
    assert faults == []
    assert found == Sample(Path("/there"), 9, None, None, 4)


def test_every_fault_is_a_line_with_section_option_and_what_is_wanted(tmp_path):
    """None hides another."""
    text = "[sample]\ncount = many\nnote =\ncolour = red\nlater = 1\n"
    found, faults = read_sample(tmp_path, text, not_built=("later",))
    assert found is None
    assert faults == [
        "[sample] place: wanted: a place (required)",
        "[sample] count: wanted: a whole number from 1 to 9",
        "[sample] colour: there is no such option",
        "[sample] later: is not built yet; take it out",
    ]


def test_an_empty_value_where_one_is_needed(tmp_path):
    """Empty is a value only where it is the default."""
    _, faults = read_sample(tmp_path, "[sample]\nplace =\ncount =\n")
    assert faults == [
        "[sample] place: wanted: a place, not empty",
        "[sample] count: wanted: a value; leave the line out for the default",
    ]


def test_an_empty_value_where_none_is_meant(tmp_path):
    """It takes the default away, where there may be none."""
    found, faults = read_sample(tmp_path, "[sample]\nplace = x\nmost =\n")
    assert faults == []
    assert found.most is None


def test_a_secret_comes_from_its_file(tmp_path):
    """NAME_file names it; the line's end is not part of the secret, blanks before it are."""
    (tmp_path / "word").write_bytes(b" 100%s \r\n")
    found, faults = read_sample(tmp_path, "[sample]\nplace = x\nword_file = word\n")
    assert faults == []
    assert found.word == " 100%s "


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ("word = a\nword_file = word", "either word or word_file, not both"),
        ("word_file = nowhere", "a file that can be read (No such file or directory: {}/nowhere)"),
        ("word_file = bytes", "a file in UTF-8 ({}/bytes)"),
        ("note_file = word", "there is no such option"),
    ],
)
def test_faults_of_secret_files(tmp_path, lines, fault):
    """Two secrets, none, or a file for what is no secret."""
    (tmp_path / "word").write_text("x", encoding="utf-8")
    (tmp_path / "bytes").write_bytes(b"\xff")
    found, faults = read_sample(tmp_path, f"[sample]\nplace = x\n{lines}\n")
    assert found is None
    (line,) = faults
    assert line.endswith(fault.format(tmp_path))


def test_a_secret_is_not_in_the_repr(tmp_path):
    """Nor is it in the line about a fault."""
    found, _ = read_sample(tmp_path, "[sample]\nplace = x\nword = hush\n")
    assert found.word == "hush"
    assert "hush" not in repr(found)


def test_percent_and_case_mean_nothing_special(tmp_path):
    """A password with `%(x)s` is that password, and options are told apart by case."""
    found, faults = read_sample(tmp_path, "[sample]\nplace = x\nnote = 5%(x)s\n")
    assert (found.note, faults) == ("5%(x)s", [])
    _, faults = read_sample(tmp_path, "[sample]\nplace = x\nNote = 5\n")
    assert faults == ["[sample] Note: there is no such option"]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "No such file or directory"),
        (b"\xff", "it is not UTF-8"),
        (b"hush = hush\n", "line 1: wanted: a [section] first"),
        (b"[a]\nx = 1\nx = hush\n", "line 3: [a] x stands there twice"),
        (b"[a]\n[a]\n", "line 2: [a] stands there twice"),
        (b"[a]\npassword hush\n", "line 2: wanted: option = value"),
    ],
)
def test_what_is_no_ini_file_is_one_fault(tmp_path, content, part):
    """It names the file and fits a line."""
    file = tmp_path / "x.ini"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Faults) as raised:
        ini.read(file)
    (fault,) = raised.value.faults
    assert str(file) in fault
    assert part in fault
    assert "\n" not in fault
    assert "hush" not in fault


def test_every_line_that_cannot_be_read_is_named(tmp_path):
    """Not only the first."""
    file = tmp_path / "x.ini"
    file.write_text("[a]\none\nx = 1\ntwo\n", encoding="utf-8")
    with pytest.raises(Faults) as raised:
        ini.read(file)
    assert [fault.split(": ")[1] for fault in raised.value.faults] == ["line 2", "line 4"]


def test_a_file_that_begins_with_a_byte_order_mark(tmp_path):
    """Some editors write one; it means nothing."""
    file = tmp_path / "x.ini"
    file.write_bytes(b"\xef\xbb\xbf[a]\nx = 1\n")
    assert ini.read(file).get("a", "x") == "1"


@pytest.mark.parametrize(
    ("convert", "text", "expected"),
    [
        (ini.text, "as it is", "as it is"),
        (ini.path, "../a/./b", Path("/a/b")),
        (ini.path, "/abs", Path("/abs")),
        (ini.number(0, 10), "10", 10),
        (ini.seconds(0.5, 10), "0.5", 0.5),
        (ini.choice("a", "b"), "b", "b"),
        (ini.url, "https://x.example:8443/a?b=c", "https://x.example:8443/a?b=c"),
        (ini.url, "http://[::1]:80", "http://[::1]:80"),
        (ini.rate, "240/m", (240, 60.0)),
        (ini.rate, "1/d", (1, 86_400.0)),
        (ini.words, " a, b ,,c ", ("a", "b", "c")),
        (ini.networks, "::1/128", (ip_network("::1/128"),)),
        (ini.addresses, "127.0.0.1:1, [::1]:2", (("127.0.0.1", 1), ("::1", 2))),
        (ini.addresses, "0.0.0.0:0", (("0.0.0.0", 0),)),
    ],
)
def test_converters(convert, text, expected):
    """Each kind of value has its form."""
    assert convert(text, FOLDER) == expected


@pytest.mark.parametrize(
    ("convert", "text"),
    [
        (ini.number(1, 10), "11"),
        (ini.number(1, 10), "0"),
        (ini.number(1, 10), "-1"),
        (ini.number(1, 10), "1.0"),
        (ini.number(1, 10), "\N{ARABIC-INDIC DIGIT FOUR}"),
        (ini.seconds(1, 10), "0.99"),
        (ini.seconds(1, 10), "1e0"),
        (ini.seconds(1, 10), "nan"),
        (ini.seconds(1, 10), "1_0"),
        (ini.choice("a", "b"), "A"),
        (ini.url, "ftp://x"),
        (ini.url, "https://x y/"),
        (ini.url, "https://x/\N{LATIN SMALL LETTER E WITH ACUTE}"),
        (ini.rate, "0/s"),
        (ini.rate, "5/w"),
        (ini.networks, "127.0.0.1/8"),
        (ini.networks, "everywhere"),
        (ini.addresses, ""),
        (ini.addresses, "127.0.0.1"),
        (ini.addresses, "localhost:1"),
        (ini.addresses, "127.0.0.1:65536"),
        (ini.addresses, "127.0.0.1:-1"),
        (ini.existing_file, "/nowhere/at/all"),
    ],
)
def test_converters_say_what_they_want(convert, text):
    """A ValueError with a text, for anything else."""
    with pytest.raises(ValueError, match=r"\w \w"):
        convert(text, FOLDER)


CONVERTERS = [
    ini.text,
    ini.path,
    ini.number(0, 99),
    ini.seconds(0, 99),
    ini.choice("a"),
    ini.url,
    ini.rate,
    ini.words,
    ini.networks,
    ini.addresses,
]


@given(st.sampled_from(CONVERTERS), st.text(min_size=1, max_size=40))
def test_no_text_brings_a_converter_down(convert, text):
    """Whatever stands in the file, it is a value or a ValueError."""
    with contextlib.suppress(ValueError):
        convert(text, FOLDER)
