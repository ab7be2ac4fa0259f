"""Texts of options to values, and the files that options name."""

import contextlib
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node2dm_tw.config import converters
from node2dm_tw.config.converters import FileContent

FOLDER = Path("/folder")


@pytest.mark.parametrize(
    ("convert", "text", "expected"),
    [
        (converters.text, "as it is", "as it is"),
        (converters.path, "../a/./b", Path("/a/b")),
        (converters.path, "/abs", Path("/abs")),
        (converters.number(0, 10), "10", 10),
        (converters.seconds(0.5, 10), "0.5", 0.5),
        (converters.percent, "0.1", 0.1),
        (converters.percent, "100", 100.0),
        (converters.choice("a", "b"), "b", "b"),
        (converters.url, "https://x.example:8443/a?b=c", "https://x.example:8443/a?b=c"),
        (converters.url, "http://[::1]:80", "http://[::1]:80"),
        (converters.url, "https://my_app:8443", "https://my_app:8443"),
        (converters.host, "my_app.example.", "my_app.example."),
        (converters.host, "::1", "[::1]"),
        (converters.host, "[2001:db8::1]", "[2001:db8::1]"),
        (converters.proxy_url, "http://proxy", "http://proxy"),
        (converters.proxy_url, "http://proxy:3128/", "http://proxy:3128/"),
        (converters.proxy_url, "https://u:p@[::1]:3128", "https://u:p@[::1]:3128"),
        (converters.proxy_url, "http://u%40x:p%3A%C3%A9$!@h:1", "http://u%40x:p%3A%C3%A9$!@h:1"),
        (converters.rate, "240/m", (240, 60.0)),
        (converters.rate, "1/d", (1, 86_400.0)),
        (converters.words, " a, b ,,c ", ("a", "b", "c")),
        (converters.networks, "::1/128", (ip_network("::1/128"),)),
        (converters.addresses, "127.0.0.1:1, [::1]:2", (("127.0.0.1", 1), ("::1", 2))),
        (converters.addresses, "0.0.0.0:0", (("0.0.0.0", 0),)),
    ],
)
def test_converters(convert, text, expected):
    """Each kind of value has its form."""
    assert convert(text, FOLDER) == expected


@pytest.mark.parametrize(
    ("convert", "text"),
    [
        (converters.number(1, 10), "11"),
        (converters.number(1, 10), "0"),
        (converters.number(1, 10), "-1"),
        (converters.number(1, 10), "1.0"),
        (converters.number(1, 10), "\N{ARABIC-INDIC DIGIT FOUR}"),
        (converters.seconds(1, 10), "0.99"),
        (converters.seconds(1, 10), "1e0"),
        (converters.seconds(1, 10), "nan"),
        (converters.percent, "100.1"),
        (converters.percent, "50 %"),
        (converters.seconds(1, 10), "1_0"),
        (converters.choice("a", "b"), "A"),
        (converters.url, "ftp://x"),
        (converters.url, "https://x y/"),
        (converters.url, "https://x/\N{LATIN SMALL LETTER E WITH ACUTE}"),
        (converters.url, "https://user:password@x/"),
        (converters.url, "https://"),
        (converters.url, "https://x:0/"),
        (converters.url, "https://x:65536/"),
        (converters.url, "https://x:/"),
        (converters.url, "https://[::1/"),
        (converters.url, "https://::1/"),
        (converters.url, "https://[::g]/"),
        (converters.url, "https://[fe80::1%25eth0]/"),
        (converters.url, "https://[1.2.3.4]/"),
        (converters.url, "https://a..b/"),
        (converters.url, f"https://{'a' * 64}/"),
        (converters.host, "https://x"),
        (converters.host, "x:8125"),
        (converters.host, "[::1"),
        (converters.host, ".".join(["a" * 60] * 5)),
        (converters.proxy_url, "proxy:3128"),
        (converters.proxy_url, "socks5://proxy:3128"),
        (converters.proxy_url, "http://@proxy:3128"),
        (converters.proxy_url, "http://u:p@ss@proxy:3128"),
        (converters.proxy_url, "http://u:p/ss@proxy:3128"),
        (converters.proxy_url, "http://u:100%@proxy:3128"),
        (converters.proxy_url, "http://u:p%00@proxy:3128"),
        (converters.proxy_url, "http://u:p%0D%0Ax@proxy:3128"),
        (converters.proxy_url, "http://u:\N{LATIN SMALL LETTER E WITH ACUTE}@proxy:3128"),
        (converters.proxy_url, "http://proxy:3128/path"),
        (converters.text, "a\nb"),
        (converters.text, "a\0b"),
        (converters.path, "a\0b"),
        (converters.rate, "0/s"),
        (converters.rate, "5/w"),
        (converters.networks, "127.0.0.1/8"),
        (converters.networks, "everywhere"),
        (converters.addresses, ""),
        (converters.addresses, "127.0.0.1"),
        (converters.addresses, "localhost:1"),
        (converters.addresses, "127.0.0.1:65536"),
        (converters.addresses, "127.0.0.1:-1"),
        (converters.file_content(), "/nowhere/at/all"),
        (converters.file_content(), "/"),
        (converters.file_content(), "a\0b"),
    ],
)
def test_converters_say_what_they_expect(convert, text):
    """A ValueError with a text, for anything else."""
    with pytest.raises(ValueError, match=r"\w \w"):
        convert(text, FOLDER)


CONVERTERS = [
    converters.text,
    converters.path,
    converters.number(0, 99),
    converters.seconds(0, 99),
    converters.choice("a"),
    converters.host,
    converters.url,
    converters.proxy_url,
    converters.rate,
    converters.words,
    converters.networks,
    converters.addresses,
]


@given(st.sampled_from(CONVERTERS), st.text(min_size=1, max_size=40))
def test_any_text_is_a_value_or_a_value_error(convert, text):
    """No converter fails in another way, whatever is in the file."""
    with contextlib.suppress(ValueError):
        convert(text, FOLDER)


def test_the_error_about_a_proxy_does_not_repeat_its_password():
    """It says how a special character is written."""
    with pytest.raises(ValueError, match="percent-encoding") as raised:
        converters.proxy_url("http://user:hu@sh@proxy:3128", FOLDER)
    assert "sh@" not in str(raised.value)


def test_a_file_with_its_content(tmp_path):
    """Another content makes another value, and the content is not in the repr."""
    file = tmp_path / "key.json"
    convert = converters.file_content()
    file.write_bytes(b"hush")
    first, again = convert("key.json", tmp_path), convert("key.json", tmp_path)
    file.write_bytes(b"other")
    assert first == again == FileContent(file, b"hush")
    assert first != convert("key.json", tmp_path)
    assert "hush" not in repr(first)


def test_a_file_is_read_up_to_its_limit(tmp_path):
    """A byte more, and it is refused."""
    file = tmp_path / "file"
    file.write_bytes(b"x" * 10)
    assert converters.read_file(file, 10) == b"x" * 10
    with pytest.raises(OSError, match="Larger than 9 bytes"):
        converters.read_file(file, 9)


def test_a_link_to_a_file_is_followed(tmp_path):
    """Secrets of containers are links."""
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    assert converters.read_file(tmp_path / "link") == b"x"
