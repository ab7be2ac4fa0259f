"""What of a changed configuration file takes effect while the gateway runs."""

import attrs

from node2dm_tw.config.changes import take_changes
from tests.unit.config.test_load import CERTIFICATE, MINIMAL, load


def test_reload_takes_what_may_change_and_names_the_rest(tmp_path):
    """What waits for a restart keeps its old value."""
    old = load(tmp_path, MINIMAL)
    text = (
        "[node2dm]\nlog_level = debug\nudp = 127.0.0.1:1\nmax_queued = 10\n"
        "[c2dm]\nusername = other\npassword = new\ntimeout = 5\n[callback]\nhost = x\n"
    )
    settings, reloaded, waiting = take_changes(old, load(tmp_path, text))
    assert reloaded == [
        "[node2dm] max_queued",
        "[node2dm] log_level",
        "[c2dm] username",
        "[c2dm] password",
    ]
    assert waiting == ["[node2dm] udp", "[c2dm] timeout", "[callback]"]
    assert settings.gateway.log_level == "debug"
    assert settings.gateway.udp == old.gateway.udp
    assert (settings.routes[0].password, settings.routes[0].timeout) == ("new", 30.0)
    assert settings.callback is None


def test_reload_names_the_options_of_every_section(tmp_path):
    """A section that comes or goes is named as a whole."""
    text = MINIMAL + "[callback]\nhost = x\n[statsd]\nhost = x\n"
    changed = text.replace("[callback]\n", "[callback]\nretries = 1\nshared_secret = hush\n")
    both, other = load(tmp_path, text), load(tmp_path, changed + "interval = 1\n")
    settings, reloaded, waiting = take_changes(both, other)
    assert reloaded == ["[callback] shared_secret"]
    assert waiting == ["[callback] retries", "[statsd] interval"]
    assert settings.callback == attrs.evolve(both.callback, shared_secret="hush")
    assert settings.statsd == both.statsd
    neither = load(tmp_path, MINIMAL)
    assert take_changes(both, neither)[2] == ["[callback]", "[statsd]"]
    assert take_changes(neither, both)[2] == ["[callback]", "[statsd]"]


def test_reload_of_another_route(tmp_path):
    """Routes that come and go wait for a restart."""
    old = load(tmp_path, MINIMAL)
    new = load(tmp_path, MINIMAL.replace("[c2dm]", "[c2dm:shop]"))
    settings, reloaded, waiting = take_changes(old, new)
    assert settings == old
    assert (reloaded, waiting) == ([], ["[c2dm]", "[c2dm:shop]"])


def test_reload_sees_what_changed_in_a_file(tmp_path):
    """A key takes effect, certificates wait for a restart, and a secret is one wherever it is."""
    text = "[fcm]\nservice_account = key.json\nca_file = ca.pem\n"
    text += MINIMAL.replace("password = hush-hush", "password_file = password")
    for name, content in {"key.json": b"", "ca.pem": CERTIFICATE, "password": b""}.items():
        (tmp_path / name).write_bytes(content + b"hush")
        (tmp_path / name).chmod(0o600)
    old = load(tmp_path, text)
    for name, content in {"key.json": b"", "ca.pem": CERTIFICATE, "password": b""}.items():
        (tmp_path / name).write_bytes(content + b"other")
    settings, reloaded, waiting = take_changes(old, load(tmp_path, text))
    assert reloaded == ["[fcm] service_account", "[c2dm] password"]
    assert waiting == ["[fcm] ca_file"]
    assert settings.routes[0].service_account.content == b"other"
    assert settings.routes[0].ca_file.content == CERTIFICATE + b"hush"
    assert "hush" not in repr(settings)
    assert "other" not in repr(settings)


def test_a_key_of_another_project_waits_for_a_restart(tmp_path):
    """The address to send to holds the project; one that is given stays what it is."""
    (tmp_path / "key.json").touch()
    for given, waits in (("", ["[fcm] project"]), ("project = given\n", [])):
        text = f"[fcm]\nservice_account = key.json\n{given}"
        old = load(tmp_path, text, check_key=lambda _: "shop")
        assert old.routes[0].project == ("given" if given else "shop")
        assert take_changes(old, load(tmp_path, text, check_key=lambda _: "other"))[2] == waits


def test_reload_of_the_same_changes_nothing(tmp_path):
    """Two readings of a file are equal."""
    old = load(tmp_path, MINIMAL)
    assert take_changes(old, load(tmp_path, MINIMAL)) == (old, [], [])
