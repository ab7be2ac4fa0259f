"""The gateway's configuration file."""

from ipaddress import ip_network

import attrs
import pytest

from node2dm_tw.config import load as loading
from node2dm_tw.config.converters import FileContent
from node2dm_tw.config.ini import ConfigErrors
from node2dm_tw.config.route_sections import C2DMRoute, FCMRoute
from node2dm_tw.config.sections import CallbackSection, GatewaySection, Statsd
from node2dm_tw.config.show import format_settings
from tests.contract.http_certificates import authority

MINIMAL = "[c2dm]\nusername = sender@example.com\npassword = hush-hush\n"
SECTIONS = {
    "node2dm": GatewaySection,
    "c2dm": C2DMRoute,
    "fcm": FCMRoute,
    "callback": CallbackSection,
    "statsd": Statsd,
}
CERTIFICATE = authority().certificate_pem
SIGNING_SECRET = "whsec_" + "QUFB" * 10


def load(tmp_path, text, emulator_defaults=None, mode=0o600, check_key=lambda _: None):
    file = tmp_path / "config.ini"
    file.write_text(text, encoding="utf-8")
    file.chmod(mode)
    return loading.load(file, tmp_path / "cwd", emulator_defaults or (lambda *_: {}), check_key)


def errors(tmp_path, text, emulator_defaults=None, check_key=lambda _: None):
    with pytest.raises(ConfigErrors) as raised:
        load(tmp_path, text, emulator_defaults, check_key=check_key)
    return raised.value.errors


def test_a_minimal_file(tmp_path):
    """An account is enough; the rest has the defaults, state_dir is the working directory."""
    settings = load(tmp_path, MINIMAL)
    assert settings.gateway.udp == (("127.0.0.1", 8120),)
    assert settings.gateway.allow == (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    assert settings.gateway.state_dir == tmp_path / "cwd"
    (route,) = settings.routes
    assert (route.name, route.username, route.ca_file) == ("c2dm", "sender@example.com", None)
    assert settings.callback is None
    assert settings.warnings == ()


def test_paths_are_relative_to_the_file(tmp_path):
    """The folder in which the process is started has no part in it."""
    (tmp_path / "ca.pem").write_bytes(CERTIFICATE)
    gateway = "[node2dm]\nstate_dir = ../x\noutcomes = y/outcomes.jsonl\n"
    settings = load(tmp_path, f"{gateway}{MINIMAL}ca_file = ca.pem\n")
    assert settings.gateway.state_dir == tmp_path.parent / "x"
    assert settings.gateway.outcomes == tmp_path / "y/outcomes.jsonl"
    assert settings.routes[0].ca_file == FileContent(tmp_path / "ca.pem", CERTIFICATE)


def test_every_fault_of_the_file_at_once(tmp_path):
    """Sections, options and values, those that are not implemented yet among them."""
    text = (
        "[node2dm]\nudp = nowhere\nstats = nonsense:1\ncolour = red\nweb = tcp\n"
        "[c2dm]\nusername = a\ntimeout = 0\nprefix = g\n"
        "[callback]\npath = x\nsigning_secret = hush-hush\n"
        "[fcm]\nproject_rate = 1\n[fcm:two]\ndevice_rate = fast\n[statsd]\n[nonsense]\n"
    )
    found = errors(tmp_path, text)
    assert {line.partition(": ")[0] for line in found[:-1]} == {
        "[node2dm] udp = nowhere",
        "[node2dm] stats = nonsense:1",
        "[node2dm] colour",
        "[node2dm] web = tcp",
        "[c2dm] password",
        "[c2dm] timeout = 0",
        "[fcm] service_account",
        "[fcm] project_rate = 1",
        "[fcm:two] service_account",
        "[fcm:two] device_rate = fast",
        "[callback] host",
        "[callback] path",
        "[callback] signing_secret",
        "[statsd] host",
    }
    assert found[-1] == "[nonsense]: unknown section"
    assert "hush" not in "".join(found)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("queue = rediss://user:hush-hush@host:1/0", "rediss"),
        ("queue = unix:///run/redis", "unix"),
        ("udp = 127.0.0.1:1, systemd:push", "systemd:NAME"),
    ],
)
def test_a_value_that_is_not_implemented_yet(tmp_path, line, kind):
    """Is refused as such."""
    (fault,) = errors(tmp_path, f"[node2dm]\n{line}\n{MINIMAL}")
    assert fault.startswith(f"[node2dm] {line.replace('user:hush-hush', '***')}: expected ")
    assert fault.endswith(f"{kind} is not implemented yet; remove it")


def test_the_key_of_datagrams(tmp_path):
    """As a text or in a file; a short one is refused, and none of it is shown."""
    (tmp_path / "key").write_text("sixteen byte key\n", encoding="utf-8")
    (tmp_path / "key").chmod(0o600)
    for line in ("datagram_key = sixteen byte key", "datagram_key_file = key"):
        gateway = load(tmp_path, f"[node2dm]\n{line}\n{MINIMAL}").gateway
        assert gateway.datagram_key == b"sixteen byte key"
        assert "sixteen" not in repr(gateway)
    assert load(tmp_path, MINIMAL).gateway.datagram_key is None
    (fault,) = errors(tmp_path, f"[node2dm]\ndatagram_key = fifteen bytes..\n{MINIMAL}")
    assert fault == (
        "[node2dm] datagram_key: expected at least 16 bytes, such as the output of:"
        " openssl rand -hex 32"
    )


def test_a_file_without_a_route(tmp_path):
    """There is nothing to send then."""
    assert errors(tmp_path, "[node2dm]\n") == [
        "[c2dm] or [fcm]: expected a section for the account that sends"
    ]


@pytest.mark.parametrize("title", ["c2dm:", "c2dm:a b", "c2dm:a:b"])
def test_a_route_with_a_name_that_cannot_be(tmp_path, title):
    """The error says what a name is made of."""
    expected = f"[{title}]: expected a name of letters, digits, _ . and -"
    assert expected in errors(tmp_path, f"[{title}]\n")


@pytest.mark.parametrize(
    ("title", "near"),
    [("C2DM", "c2dm"), ("node2dn", "node2dm"), ("callbacks", "callback"), ("fmc:shop", "fcm:shop")],
)
def test_an_unknown_section(tmp_path, title, near):
    """The error names the known one that is most like it."""
    expected = f"[{title}]: unknown section" + (f"; did you mean {near}?" if near else "")
    assert expected in errors(tmp_path, f"[{title}]\n")


def test_a_named_route(tmp_path):
    """[c2dm:NAME] is the route NAME."""
    (route,) = load(tmp_path, MINIMAL.replace("[c2dm]", "[c2dm:shop]")).routes
    assert route.name == "shop"


@pytest.fixture
def key(tmp_path):
    (tmp_path / "key.json").touch()
    return "service_account = key.json\n"


@pytest.mark.parametrize(
    ("text", "prefixes"),
    [
        ("[fcm:a]\nKEY[fcm:b]\nKEY", ["g", None]),
        ("[fcm:a]\nprefix = x\nKEY[fcm:b]\nKEY", ["x", "g"]),
        ("[fcm]\nKEY[fcm:b]\nprefix = g\nKEY", [None, "g"]),
        ("[fcm:a]\nKEY[fcm:g]\nKEY", [None, None]),
        ("[fcm]\nprefix =\nKEY", [None]),
    ],
)
def test_a_default_prefix_gives_way(tmp_path, key, text, prefixes):
    """It belongs to one route, and to none where the file gives the name to another."""
    routes = load(tmp_path, text.replace("KEY", key)).routes
    assert [route.prefix for route in routes] == prefixes


def test_two_routes_that_ask_for_the_same_prefix(tmp_path, key):
    """Both are at fault."""
    text = f"[fcm:a]\nprefix = x\n{key}[fcm:b]\nprefix = x\n{key}"
    assert errors(tmp_path, text) == [
        "[fcm:a] prefix = x: expected a name that no other route has",
        "[fcm:b] prefix = x: expected a name that no other route has",
    ]


@pytest.mark.parametrize(
    ("lines", "c2dm", "fcm"),
    [
        ("", None, 60),
        ("device_rate = 100/s", 25, 60),
        ("device_rate = 100/s, 8/m", 2, 2),
        ("device_rate = 2/s", 1, 1),
        ("device_rate = 5/s\ndevice_burst = 4", 4, 4),
    ],
)
def test_a_burst_that_the_file_leaves_out(tmp_path, key, lines, c2dm, fcm):
    """It fits the rates that the file has."""
    routes = load(tmp_path, f"{MINIMAL}{lines}\n[fcm]\n{key}{lines}\n").routes
    assert [route.device_burst for route in routes] == [c2dm, fcm]


def test_a_burst_that_the_file_has(tmp_path):
    """It is taken at its word."""
    (fault,) = errors(tmp_path, MINIMAL + "device_rate = 5/s\ndevice_burst = 6\n")
    assert fault == "[c2dm] device_burst = 6: expected no more than each device_rate allows"


@pytest.mark.parametrize("value", ["tcp", "tcp:x", "nonsense:1", "", "tcp:1:2:3:4:5", "ssl:443"])
def test_what_is_no_endpoint(tmp_path, value):
    """It is a fault of the option stats, not a traceback."""
    (fault,) = errors(tmp_path, f"[node2dm]\nstats = {value}\n{MINIMAL}")
    assert fault.startswith(f"[node2dm] stats = {value}: expected ")


def test_the_emulator_gives_a_route_its_defaults(tmp_path):
    """Only where there is such a section; what the file says goes first."""
    seen = []

    def emulator_defaults(texts, state_dir, folder):
        seen.append((texts, state_dir, folder))
        return {"username": "demo", "password": "p", "login_url": "https://localhost:1/x"}

    text = "[node2dm]\nstate_dir = state\n[c2dm]\nusername = me\n[emulator]\nphones = a\n"
    (route,) = load(tmp_path, text, emulator_defaults).routes
    assert (route.username, route.password) == ("me", "p")
    assert route.login_url == "https://localhost:1/x"
    assert seen == [({"phones": "a"}, tmp_path / "state", tmp_path)]


def test_faults_of_the_emulator_join_the_others(tmp_path):
    """Also where [node2dm] is at fault; what it would have given is not missed as well."""

    def faulty(*_):
        raise ConfigErrors(["[emulator] listen: x"])

    text = "[node2dm]\nudp = x\n[c2dm]\ntimeout = x\n[emulator]\n"
    assert [error.split(":")[0] for error in errors(tmp_path, text, faulty)] == [
        "[node2dm] udp = x",
        "[emulator] listen",
        "[c2dm] timeout = x",
    ]


def test_a_state_dir_that_is_no_path(tmp_path):
    """It is its own error alone, with an emulator too."""
    text = "[node2dm]\nstate_dir = a\n  b\n[c2dm]\n[emulator]\n"
    given = {"username": "-", "password": "-"}
    assert errors(tmp_path, text, lambda *_: given) == [
        "[node2dm] state_dir = a...: expected one line without control characters"
    ]


def test_a_state_dir_in_which_the_emulator_cannot_make_its_files(tmp_path):
    """It is the option state_dir that is at fault."""

    def unwritable(*_):
        raise PermissionError(13, "Permission denied", "/state/emulator")

    assert errors(tmp_path, "[c2dm]\n[emulator]\n", unwritable) == [
        "[node2dm] state_dir: expected a folder that can be written"
        " (Permission denied: /state/emulator)"
    ]


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True)])
def test_a_file_with_a_secret_that_others_can_read(tmp_path, mode, warned):
    """Brings a warning that names the file, but not the secret."""
    warnings = load(tmp_path, MINIMAL, mode=mode).warnings
    assert bool(warnings) == warned
    for warning in warnings:
        assert str(tmp_path / "config.ini") in warning
        assert "hush" not in warning


def test_a_secrets_own_file_that_others_can_read(tmp_path):
    """It is the file with the secret that is warned of, not the one that names it."""
    (tmp_path / "password").write_text("hush", encoding="utf-8")
    (tmp_path / "password").chmod(0o644)
    text = MINIMAL.replace("password = hush-hush", "password_file = password")
    (warning,) = load(tmp_path, text, mode=0o644).warnings
    assert str(tmp_path / "password") in warning


def test_a_proxy_with_a_password_is_a_secret(tmp_path):
    """It may be in a file of its own, and whoever can read either is warned of, if there is one."""
    for line, mode, holder in (
        ("proxy = http://user:hush@proxy:3128", 0o644, "config.ini"),
        ("proxy = http://proxy:3128", 0o644, None),
        ("proxy_file = proxy", 0o600, "proxy"),
    ):
        (tmp_path / "proxy").write_text("http://user:hush@proxy:3128\n", encoding="utf-8")
        (tmp_path / "proxy").chmod(0o644)
        text = "[c2dm]\nusername = x\npassword_file = password\n"
        (tmp_path / "password").write_text("x", encoding="utf-8")
        (tmp_path / "password").chmod(0o600)
        settings = load(tmp_path, f"[node2dm]\n{line}\n{text}", mode=mode)
        assert settings.gateway.proxy.endswith("proxy:3128")
        assert "hush" not in repr(settings)
        warned = [] if holder is None else [str(tmp_path / holder)]
        assert [warning.split(" contains")[0] for warning in settings.warnings] == warned


def test_no_secret_in_the_repr(tmp_path):
    """Of the whole settings, secrets of the callback included."""
    text = f"{MINIMAL}[callback]\nhost = x\nshared_secret = hush\nsigning_secret = "
    settings = load(tmp_path, text + SIGNING_SECRET + "\n")
    assert settings.routes[0].password == "hush-hush"
    assert settings.callback.signing_secret == b"AAA" * 10
    assert "hush" not in repr(settings)
    assert "AAA" not in repr(settings)


@pytest.mark.parametrize(
    ("lines", "url"),
    [
        ("host = x.example", "https://x.example/"),
        ("host = [::1]\nport = 8\npath = /a?b\nprotocol = http", "http://[::1]:8/a?b"),
    ],
)
def test_the_address_of_the_callback(tmp_path, lines, url):
    """Made of its parts."""
    assert load(tmp_path, f"{MINIMAL}[callback]\n{lines}\n").callback.url == url


def everything(tmp_path):
    """A file with a word in every option that may hold one."""
    text = (
        "[node2dm]\nproxy = http://user:hush-hush@proxy:3128\n"
        "web = tcp:8122\nlog_level = info, http=debug\nudp = 127.0.0.1:1, [::1]:2\n"
        f"{MINIMAL}send_url = https://host/x?key=hush-hush\n"
        "[callback]\nhost = x\npath = /hush-hush\nshared_secret = hush-hush\n"
        f"signing_secret = {SIGNING_SECRET}\n[statsd]\nhost = s\n"
    )
    return load(tmp_path, text)


def test_what_telnet_shows_of_the_configuration(tmp_path):
    """As a file would have it; an option that no list allows is hidden, logins in addresses too."""
    lines = format_settings(everything(tmp_path))
    assert "hush" not in "".join(lines)
    assert "QUFB" not in "".join(lines)
    assert [line for line in lines if line.startswith("[")] == [
        "[node2dm]", "[c2dm]", "[callback]", "[statsd]",
    ]  # fmt: skip
    for line in (
        "udp = 127.0.0.1:1, [::1]:2",
        "web = tcp:8122",
        "proxy = ***",
        "allow = 127.0.0.0/8, ::1/128",
        "max_age = 86400",
        "log_level = info, http=debug",
        "username = sender@example.com",
        "password = ***",
        "ca_file =",
        "send_url = https://host/x",
        "path = ***",
        "shared_secret = ***",
        "interval = 10",
    ):
        assert line in lines


def test_every_option_is_shown_unless_it_is_secret():
    """Or it is known why not."""
    fields = [field for kind in SECTIONS.values() for field in attrs.fields(kind) if field.metadata]
    assert not any(field.metadata["shown"] and field.metadata["secret"] for field in fields)
    hidden = {
        field.name
        for field in fields
        if not field.metadata["shown"] and not field.metadata["secret"]
    }
    assert hidden == {"path"}, "it often holds a secret"


def test_statsd(tmp_path):
    """A host is enough."""
    statsd = load(tmp_path, MINIMAL + "[statsd]\nhost = s.example\n").statsd
    assert (statsd.port, statsd.prefix, statsd.interval) == (8125, "node2dm", 10.0)
    (fault,) = errors(tmp_path, MINIMAL + "[statsd]\nhost = s\nprefix = a:b\n")
    assert fault.startswith("[statsd] prefix = a:b: expected ")


def test_a_level_for_a_part(tmp_path):
    """One that is unknown is a fault of the option."""
    (fault,) = errors(tmp_path, "[node2dm]\nlog_level = info, engine=debug\n" + MINIMAL)
    assert fault.startswith("[node2dm] log_level = info, engine=debug: expected one of debug")


def test_what_is_wrong_with_a_key_is_told_with_all_the_rest(tmp_path):
    """A fault of another option of its section does not hide that of the key."""

    def check_key(key):
        raise ValueError(f"a service account's key file ({key.decode()} is not JSON)")

    (tmp_path / "key.json").write_bytes(b"it")
    text = "[fcm]\nservice_account = key.json\nmax_in_flight = many\n"
    assert errors(tmp_path, text, check_key=check_key) == [
        "[fcm] max_in_flight = many: expected a whole number from 1 to 4096",
        "[fcm] service_account = key.json: expected a service account's key file (it is not JSON)",
    ]


def test_default_credentials(tmp_path, monkeypatch):
    """The file that the environment names, else that of gcloud, else the metadata server."""
    text = "[fcm]\nproject = shop\nservice_account = default\n"
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    assert load(tmp_path, text).routes[0].service_account == "metadata"
    gcloud, named = tmp_path / "application_default_credentials.json", tmp_path / "default"
    for file, name in ((gcloud, ""), (named, str(named))):
        file.write_bytes(b"it")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", name)
        settings = load(tmp_path, text)
        assert settings.routes[0].service_account == FileContent(file, b"it")
        assert f"service_account = {file}" in format_settings(settings)
    named.unlink()
    [error] = errors(tmp_path, text)
    expected = "[fcm] service_account = default: expected a file that can be read (No such file"
    assert error.startswith(expected)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.delenv("CLOUDSDK_CONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load(tmp_path, text).routes[0].service_account == "metadata"


def test_the_metadata_server(tmp_path):
    """It is no file, is shown by its name, and names no project; a file may be called so."""
    text = "[fcm]\nservice_account = metadata\n"
    settings = load(tmp_path, f"{text}project = shop\n")
    assert settings.routes[0].service_account == "metadata"
    assert "service_account = metadata" in format_settings(settings)
    assert settings.warnings == ()
    asked = []
    assert errors(tmp_path, text, check_key=lambda source: asked.append(source) or "") == [
        "[fcm] project: expected a project ID; metadata names none"
    ]
    assert asked == ["metadata"]
    (tmp_path / "metadata").touch()
    settings = load(tmp_path, "[fcm]\nservice_account = ./metadata\nproject = shop\n")
    assert settings.routes[0].service_account == FileContent(tmp_path / "metadata", b"")


def test_a_key_without_a_project_wants_one(tmp_path):
    """Without a project there is no address to send to, unless the address is whole."""
    (tmp_path / "key.json").touch()
    text = "[fcm]\nservice_account = key.json\n"
    named = ["project = shop", "url = https://host/v1/projects/shop/messages:send"]
    assert errors(tmp_path, text, check_key=lambda _: "") == [
        "[fcm] project: expected a project ID; the key names none"
    ]
    for line in named:
        assert load(tmp_path, f"{text}{line}\n", check_key=lambda _: "").routes


def test_no_route_is_named_callbacks(tmp_path):
    """Its pushes and the callbacks would be kept in one file, and one of them lost."""
    text = MINIMAL.replace("[c2dm]", "[c2dm:callbacks]")
    assert errors(tmp_path, text) == [
        "[c2dm:callbacks]: expected another name; callbacks.spool is in use"
    ]


def test_the_names_of_the_web_port(tmp_path):
    """In lower case, without the dot at the end of a full name."""
    text = "[node2dm]\nweb_hosts = Push.Example.com., my_host ,other\n" + MINIMAL
    assert load(tmp_path, text).gateway.web_hosts == ("push.example.com", "my_host", "other")
    assert load(tmp_path, MINIMAL).gateway.web_hosts is None


@pytest.mark.parametrize(
    "name", ["https://a.example", "a.example:8122", "*.example", "a b", "a..b"]
)
def test_what_is_no_name_of_the_web_port(tmp_path, name):
    """It is named, with an example of what is."""
    (error,) = errors(tmp_path, f"[node2dm]\nweb_hosts = {name}\n" + MINIMAL)
    assert error.startswith(f"[node2dm] web_hosts = {name}: expected names such as push.example")


def test_push_token(tmp_path):
    """A text or a file with it; it has no effect without the web port, which is a warning."""
    web = "[node2dm]\nweb = tcp:8122\n"
    assert load(tmp_path, MINIMAL).gateway.push_token is None
    assert load(tmp_path, f"{web}push_token = a+/=\n{MINIMAL}").gateway.push_token == "a+/="
    (tmp_path / "token").write_text("from-file\n", encoding="utf-8")
    (tmp_path / "token").chmod(0o600)
    settings = load(tmp_path, f"{web}push_token_file = token\n{MINIMAL}")
    assert settings.gateway.push_token == "from-file"
    assert settings.warnings == ()
    settings = load(tmp_path, f"[node2dm]\npush_token = a\n{MINIMAL}")
    assert settings.warnings == (
        "[node2dm] push_token has no effect: pushes by HTTP need the option web",
    )
    (error,) = errors(tmp_path, f"{web}push_token = a b\n{MINIMAL}")
    assert (
        error == "[node2dm] push_token: expected 1 to 1024 visible ASCII characters, without blanks"
    )


def test_the_outcome_records(tmp_path):
    """Off, unless a file is named; of the sent pushes a share, of the targets the beginning."""
    gateway = load(tmp_path, MINIMAL).gateway
    assert gateway.outcomes is None
    assert (gateway.outcomes_sample, gateway.outcomes_targets) == (100.0, "short")
    options = "[node2dm]\noutcomes = o.jsonl\noutcomes_sample = 0.5\noutcomes_targets = full\n"
    gateway = load(tmp_path, options + MINIMAL).gateway
    assert (gateway.outcomes_sample, gateway.outcomes_targets) == (0.5, "full")
    assert errors(
        tmp_path, f"[node2dm]\noutcomes_sample = 101\noutcomes_targets = long\n{MINIMAL}"
    ) == [
        "[node2dm] outcomes_sample = 101: expected percent, from 0 to 100",
        "[node2dm] outcomes_targets = long: expected one of short, full, none",
    ]
