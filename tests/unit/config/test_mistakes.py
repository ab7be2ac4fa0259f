"""Mistakes that are made in config.ini and with key files, and what is said of each."""

import contextlib
import io
import json
import sys
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node2dm_tw.app.options import Options
from node2dm_tw.config import sections
from tests.contract.http_certificates import authority
from tests.unit.providers.keys import CONTENT, RSA, pem

SECRET = "hush-hush"
ACCOUNT = f"[c2dm]\nusername = sender@example.com\npassword = {SECRET}\n"
FCM = "[fcm]\nservice_account = key.json\n"
COMMENTS = "comments need a line of their own"
GET_KEY = (
    "get one in the Firebase console: Project settings, Service accounts, Generate new private key"
)


def check(folder, content):
    """Check a configuration as `--check` does; give its exit status and the lines it says."""
    file = folder / "config.ini"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    file.chmod(0o600)
    out = io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(out),
        pytest.raises(SystemExit) as ended,
    ):
        Options().parseOptions(["--check", "-c", str(file)])
    return ended.value.code, out.getvalue().replace(f"{folder}/", "").splitlines()


MISTAKES = {
    "a comment behind a number": (
        f"[node2dm]\nmax_age = 60 ; a minute\n{ACCOUNT}",
        f"[node2dm] max_age = 60 ; a minute: expected seconds, from 1 to 2419200; {COMMENTS}",
    ),
    "a comment behind a path": (
        f"[node2dm]\nstate_dir = state # of pushes\n{ACCOUNT}",
        f"[node2dm] state_dir = state # of pushes: expected a value alone; {COMMENTS}",
    ),
    "a comment behind a host": (
        f"{ACCOUNT}[callback]\nhost = www.example.com ; ours\n",
        "[callback] host = www.example.com ; ours: expected a host name or an IP address;"
        f" {COMMENTS}",
    ),
    "a comment behind a section": (
        ACCOUNT.replace("]", "] # ours"),
        f"config.ini: line 1: expected [section] alone; {COMMENTS}",
    ),
    "quotes": (
        f'{ACCOUNT}source = "acme-push-1"\n',
        '[c2dm] source = "acme-push-1": expected a value without quotes',
    ),
    "a unit": (
        f"[node2dm]\ndrain = 10s\n{ACCOUNT}",
        "[node2dm] drain = 10s: expected seconds, from 0 to 3600",
    ),
    "an option of another section": (
        f"{ACCOUNT}service_account = key.json\n",
        "[c2dm] service_account: unknown option; it belongs to [fcm]",
    ),
    "an option of several others": (
        f"[statsd]\nhost = x\nmax_age = 5\n{ACCOUNT}",
        "[statsd] max_age: unknown option; it belongs to [node2dm] or [fcm]",
    ),
    "an option of the emulator": (
        f"{ACCOUNT}phones = a\n",
        "[c2dm] phones: unknown option; it belongs to [emulator]",
    ),
    "an option of the gateway with the emulator": (
        "[c2dm]\n[emulator]\nweb = tcp:1\n",
        "[emulator] web: unknown option; it belongs to [node2dm]",
    ),
    "a misspelt option": (
        f"{ACCOUNT}time_out = 5\n",
        "[c2dm] time_out: unknown option; did you mean timeout?",
    ),
    "a misspelt secret": (
        f"{ACCOUNT}[callback]\nhost = x\nshared_sceret = {SECRET}\n",
        "[callback] shared_sceret: unknown option; did you mean shared_secret?",
    ),
    "a misspelt section": (
        f"{ACCOUNT}[callbacks]\nhost = x\n",
        "[callbacks]: unknown section; did you mean callback?",
    ),
    "a misspelt section of a route": (
        f"{ACCOUNT}[FCM:shop]\nservice_account = x\n",
        "[FCM:shop]: unknown section; did you mean fcm:shop?",
    ),
    "no section": (
        f"username = x\npassword = {SECRET}\n",
        "config.ini: line 1: expected a [section] first",
    ),
    "a section that is not closed": (
        f"{ACCOUNT}[statsd\nhost = x\n",
        "config.ini: line 4: expected [section]",
    ),
    "an option twice": (
        f"{ACCOUNT}password = {SECRET}\n",
        "config.ini: line 4: [c2dm] password is defined twice, first in line 3",
    ),
    "a secret's file that is not named": (
        f"{ACCOUNT}[callback]\nhost = x\nshared_secret_file =\n",
        "[callback] shared_secret_file = : expected the path of a file, not empty",
    ),
    "a section twice": (
        f"{ACCOUNT}[node2dm]\n[c2dm]\ntimeout = 5\n",
        "config.ini: line 5: [c2dm] is defined twice, first in line 1",
    ),
    "a secret in the file and beside it": (
        f"{ACCOUNT}password_file = password\n",
        "[c2dm] password: expected either password or password_file, not both",
    ),
    "an option that is indented": (
        f"[c2dm]\nusername = x\n\tpassword = {SECRET}\n",
        "[c2dm] password: expected at the beginning of a line; indented, it is a part of username",
    ),
    "no equals sign": (
        f"[c2dm]\nusername = x\npassword {SECRET}\n",
        "config.ini: line 3: expected option = value",
    ),
    "an option in the line of another": (
        f"[c2dm]\nusername = x\npassword = x\ntimeout = 5 password = {SECRET}\n",
        "[c2dm] timeout = 5 ...: expected seconds, from 1 to 600",
    ),
    "a NUL byte": (
        f"{ACCOUNT}\0\0\0\n",
        "config.ini: line 4: a NUL byte: expected text in UTF-8; is it UTF-16, or damaged?",
    ),
    "UTF-16": (
        ACCOUNT.encode("utf-16"),
        "config.ini: it is not UTF-8 but UTF-16: save it as UTF-8",
    ),
    "Latin-1": (
        ACCOUNT.encode() + b"# f\xfcr uns\n",
        "config.ini: line 4: byte 0xfc: it is not UTF-8: save the file as UTF-8",
    ),
    "two files in one, each with a byte-order mark": (
        f"\ufeff{ACCOUNT}\ufeff[statsd]\nhost = x\n",
        "config.ini: line 4: a byte-order mark: expected none but at the beginning of the file",
    ),
    "lines that end in CR": (
        ACCOUNT.replace("\n", "\r"),
        "config.ini: its lines end in CR alone: expected LF or CR LF",
    ),
    "no route": ("[node2dm]\n", "[c2dm] or [fcm]: expected a section for the account that sends"),
    "a port twice": (
        f"[node2dm]\nstats = tcp:8122\nweb = tcp:8122\n{ACCOUNT}",
        "[node2dm] web = tcp:8122: expected another port than stats",
    ),
    "an address twice": (
        f"[node2dm]\nudp = 127.0.0.1:1, 127.0.0.1:1\n{ACCOUNT}",
        "[node2dm] udp = 127.0.0.1:1, 127.0.0.1:1: expected each address once",
    ),
    "an option that is still to come": (
        f"[node2dm]\nclaim_after = 30\n{ACCOUNT}",
        "[node2dm] claim_after: is not implemented yet; remove it",
    ),
    "a token with a blank": (
        f"[node2dm]\npush_token = {SECRET} x\n{ACCOUNT}",
        "[node2dm] push_token: expected 1 to 1024 visible ASCII characters, without blanks",
    ),
    "a folder in place of a file": (
        "[fcm]\nservice_account = .\n",
        "[fcm] service_account = .: expected a file that can be read"
        " (Not a regular file but a directory: FOLDER)",
    ),
    "no such file": (
        "[fcm]\nservice_account = keys.json\n",
        "[fcm] service_account = keys.json: expected a file that can be read"
        " (No such file or directory: keys.json)",
    ),
    "a key in place of its path": (
        f'[fcm]\nservice_account = {{"type": "service_account", "private_key": "{SECRET}"}}\n',
        "[fcm] service_account = ...: expected the path of a file, not its content",
    ),
    "a key in place of its path, in several lines": (
        f'[fcm]\nservice_account = {{\n  "private_key": "{SECRET}"\n  }}\n',
        "[fcm] service_account = ...: expected the path of a file, not its content",
    ),
    "a certificate in DER": (
        f"{ACCOUNT}ca_file = ca.der\n",
        "[c2dm] ca_file = ca.der: expected certificates in PEM; this is DER:"
        " openssl x509 -inform der -in FILE",
    ),
    "a key in place of certificates": (
        f"{ACCOUNT}ca_file = key.json\n",
        "[c2dm] ca_file = key.json: expected a file with certificates in PEM"
        " (there is none in the file)",
    ),
}
"""What is in config.ini, and the one line that is said of it."""


def make_files(folder, key):
    (folder / "key.json").write_bytes(key)
    (folder / "key.json").chmod(0o600)
    (folder / "password").write_text(SECRET, encoding="utf-8")
    (folder / "ca.der").write_bytes(b"\x30\x82\x01\x00" + b"\0" * 256)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_the_file(tmp_path, name):
    """One line with the place, the value where it is no secret, and what is expected."""
    content, expected = MISTAKES[name]
    make_files(tmp_path, json.dumps(CONTENT).encode())
    status, said = check(tmp_path, content)
    assert said == [expected.replace("FOLDER", str(tmp_path))]
    assert status == 1
    assert SECRET not in "".join(said)


@pytest.mark.parametrize(
    "name",
    [
        "a comment behind a path",
        "an option of another section",
        "an option that is indented",
        "UTF-16",
        "a key in place of its path, in several lines",
    ],
)
def test_a_mistake_with_a_real_twistd(make_gateway, name):
    """It is told alike by a check and by a start, which ends before it begins."""
    content, expected = MISTAKES[name]
    gateway = make_gateway()
    make_files(gateway.folder, json.dumps(CONTENT).encode())
    gateway.file.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = {*gateway.folder.iterdir()}
    for options in (("--check",), ()):
        done = gateway.run_twistd("-n", "node2dm", *options, "-c", "config.ini")
        said = done.stderr.replace(f"{gateway.folder}/", "")
        assert (done.returncode, done.stdout, said) == (1, "", f"{expected}\n")
    assert {*gateway.folder.iterdir()} == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (FCM, "[fcm] service_account = key.json: expected PyJWT, which FCM needs: pip install"),
        ("[fcm]\n[emulator]\n", "[fcm] service_account: expected PyJWT, which FCM needs: pip"),
        (
            f"[node2dm]\nhttp_client = curl\n{ACCOUNT}",
            "[node2dm] http_client = curl: expected pycurl, which curl needs: pip install pycurl",
        ),
        (
            f"[node2dm]\nproxy = http://u:{SECRET}@proxy:3128\n{ACCOUNT}",
            "[node2dm] proxy: needs pycurl (pip install pycurl), not http_client = treq",
        ),
    ],
)
def test_a_library_that_is_missing(tmp_path, monkeypatch, text, expected):
    """The option that needs it is named, also where the emulator has yet to make its key."""
    monkeypatch.setitem(sys.modules, "jwt", None)
    monkeypatch.setattr(sections, "HAS_CURL", False)
    make_files(tmp_path, json.dumps(CONTENT).encode())
    status, (said,) = check(tmp_path, text)
    assert status == 1
    assert said.startswith(expected)


KEYS = {
    "google-services.json": (
        {"project_info": {"project_id": "shop"}, "client": [{"api_key": [SECRET]}]},
        f"it is google-services.json, which belongs in an Android app; {GET_KEY}",
    ),
    "GoogleService-Info.plist": (
        b"<?xml version='1.0'?>\n<plist><dict><key>GOOGLE_APP_ID</key></dict></plist>",
        f"it is GoogleService-Info.plist, which belongs in an iOS app; {GET_KEY}",
    ),
    "the secret of a desktop client": (
        {"installed": {"client_id": "x", "client_secret": SECRET}},
        f"it is the client secret of an OAuth client; {GET_KEY}",
    ),
    "the secret of a web client": (
        {"web": {"client_id": "x", "client_secret": SECRET}},
        f"it is the client secret of an OAuth client; {GET_KEY}",
    ),
    "an answer of IAM": (
        {"name": "projects/x", "privateKeyData": b64encode(SECRET.encode()).decode()},
        "it is an answer of Google's IAM; its privateKeyData is the key in base64",
    ),
    "a certificate": (
        authority().certificate_pem,
        f"it is a certificate, without a private key; {GET_KEY}",
    ),
    "a private key alone": (
        pem(RSA).encode(),
        f"it is a private key alone, not JSON; {GET_KEY}",
    ),
    "a P12 file": (
        b"\x30\x82\x09\xb4\x02\x01\x03",
        f"it is a P12 file, not JSON; {GET_KEY}, as JSON",
    ),
    "a server key": (
        b"AAAAabc_123:APA91b" + SECRET.encode(),
        f"it is a server key of FCM's old interface; {GET_KEY}",
    ),
    "a key in base64": (
        b64encode(json.dumps(CONTENT).encode()),
        "it is base64: decode it with base64 -d",
    ),
    "nothing": (b"", "it is empty"),
    "half a key": (json.dumps(CONTENT, indent=2).encode()[:200], "it is not JSON, from line 5 on"),
    "a key with a placeholder": (
        {**CONTENT, "private_key": SECRET},
        "its private_key is not a private key in PEM",
    ),
    "a key without its account": ({**CONTENT, "client_email": ""}, "it has no client_email"),
}
"""What is in a key file, and what is said of it."""


@pytest.mark.parametrize("name", KEYS)
def test_a_file_that_is_no_key(tmp_path, name):
    """The line names it, and where it is plain what it is, the way to a key; never its text."""
    content, what = KEYS[name]
    make_files(tmp_path, content if isinstance(content, bytes) else json.dumps(content).encode())
    status, said = check(tmp_path, FCM)
    place = "[fcm] service_account = key.json"
    assert said == [f"{place}: expected a service account's key file ({what})"]
    assert status == 1
    assert SECRET not in said[0]


@pytest.mark.parametrize(
    "content",
    [
        ACCOUNT.replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + ACCOUNT.encode(),
        f"\n\t[c2dm]\n\tusername\t=\tx\n\n\t;y\n\tpassword:\t{SECRET} ; x\n".encode(),
        f"[node2dm]\nudp =\n  127.0.0.1:1,\n  # y\n\n  [::1]:2\n{ACCOUNT}".encode(),
        FCM.encode(),
    ],
    ids=["CR LF", "byte-order mark", "tabs", "continued", "key"],
)
def test_what_is_no_mistake(tmp_path, content):
    """Line ends and a byte-order mark of Windows, indented sections, values in several lines."""
    make_files(tmp_path, json.dumps(CONTENT).replace("\\n", "\\\\n").encode())
    assert check(tmp_path, content) == (0, ["config.ini: ok"])


NAMES = (
    "udp", "stats", "web", "allow", "state_dir", "proxy", "log_level", "username", "password",
    "password_file", "ca_file", "login_url", "service_account", "project", "device_rate", "host",
    "path", "shared_secret", "signing_secret", "listen", "phones", "accounts", "accounts_file",
    "push_token", "datagram_key", "x",
)  # fmt: skip
SECRETS = ("password", "shared_secret", "signing_secret", "proxy", "accounts", "push_token",
           "datagram_key")  # fmt: skip
VALUES = (
    "1", "x", "yes", "key.json", ".", "127.0.0.1:1", "::1", "tcp:1", "ssl:1:privateKey=key.json",
    "https://a:b@host/x?y", "a@b", "5/s", "info, http=debug", "whsec_x", "memory", "\0", "\u2028",
    '"x"', "x ; y", "-----BEGIN", "{", "%(x)s", "tcp:1:x=y", "unix:x:mode=9", "fd:9", "haproxy:tcp",
)  # fmt: skip
TITLES = ("node2dm", "c2dm", "fcm", "fcm:a", "callback", "statsd", "emulator", "x", "c2dm:", "C2DM")

titles = st.sampled_from(TITLES).map("[{}]".format)
indents = st.sampled_from(["", "", "", " ", "\t"])
values = st.sampled_from(VALUES) | st.text(max_size=8)
options = st.tuples(indents, st.sampled_from(NAMES), values).map(lambda t: f"{t[0]}{t[1]} = {t[2]}")
secrets = st.tuples(
    indents,
    st.sampled_from(SECRETS),
    st.sampled_from(
        [" = {}", ": {}", " {}", " = {} ; x", " = http://u:{}@h:1", " =\n {}", ": [{}"]
    ),
).map(lambda t: f"{t[0]}{t[1]}{t[2].format(SECRET)}")
joined = st.tuples(options, secrets).map(" ".join)
lines = st.one_of(titles, options, options, secrets, joined, st.text(max_size=20))


@given(st.lists(lines, max_size=16), st.sampled_from(["\n", "\r\n"]))
def test_any_text_is_a_configuration_or_errors(tmp_path_factory, texts, end):
    """Nothing else comes of it, nothing is written, and no secret is in what is said."""
    folder = tmp_path_factory.mktemp("any")
    make_files(folder, json.dumps(CONTENT).encode())
    before = {*folder.iterdir()}
    status, said = check(folder, end.join(texts).encode("utf-8", "surrogatepass"))
    assert status in (0, 1)
    assert said
    assert SECRET not in "".join(said)
    assert {*folder.iterdir()} == before | {folder / "config.ini"}


@given(st.binary(max_size=200))
def test_any_bytes_are_a_configuration_or_errors(tmp_path_factory, content):
    """Whatever the encoding."""
    assert check(tmp_path_factory.mktemp("any"), content)[0] in (0, 1)


@given(st.binary(max_size=100) | st.recursive(st.text(), st.lists).map(json.dumps).map(str.encode))
def test_any_key_file_is_a_key_or_an_error(tmp_path_factory, content):
    """And never a traceback."""
    folder = tmp_path_factory.mktemp("any")
    make_files(folder, content)
    assert check(folder, FCM)[0] == 1
