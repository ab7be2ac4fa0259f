"""Variables of the environment that libraries obey unasked, with a real gateway."""

import os
import signal

import pytest

from tests.support.waiting import wait_until


@pytest.mark.parametrize("client", ["curl", "treq"])
def test_no_keys_of_tls_are_written_down(make_gateway, tmp_path, client):
    """SSLKEYLOGFILE is dropped with a warning: with its keys anybody can read every token."""
    keys = tmp_path / "keys"
    gateway = make_gateway(
        "[c2dm]\n[fcm]\n[emulator]\n",
        node2dm=f"http_client = {client}",
        environment={**os.environ, "SSLKEYLOGFILE": str(keys)},
    ).start()
    gateway.push(b"demo-phone:key:1", b"g|demo-phone:key:{}", b"nobody:key:1")
    gateway.wait_for(messages_sent=2, messages_bad_device=1)
    assert not keys.exists()
    assert gateway.log.count("SSLKEYLOGFILE in the environment is ignored") == 1


def test_no_keys_of_tls_are_written_down_by_a_daemon(make_gateway, tmp_path):
    """Nor by what is left of it after the fork."""
    keys = tmp_path / "keys"
    gateway = make_gateway(environment={**os.environ, "SSLKEYLOGFILE": str(keys)})
    assert gateway.run().returncode == 0
    try:
        gateway.push(b"demo-phone:key:1")
        gateway.wait_for(messages_sent=1)
        assert not keys.exists()
        assert "SSLKEYLOGFILE in the environment is ignored" in gateway.log
    finally:
        os.kill(int(gateway.pid_file.read_text(encoding="utf-8")), signal.SIGTERM)
        wait_until(lambda: not gateway.pid_file.exists(), "the pid file is gone")


@pytest.mark.parametrize("client", ["curl", "treq"])
def test_other_variables_change_nothing(make_gateway, tmp_path, client):
    """No proxy but the one of the configuration, no password but the one of the account."""
    (tmp_path / ".netrc").write_text("default login x password hush\n", encoding="utf-8")
    nowhere = "http://user:hush@127.0.0.1:9"
    variables = {"https_proxy", "HTTPS_PROXY", "http_proxy", "all_proxy", "ALL_PROXY"}
    others = {"CURL_CA_BUNDLE": "/dev/null", "NETRC": str(tmp_path / ".netrc")}
    environment = {**os.environ, **dict.fromkeys(variables, nowhere), **others}
    gateway = make_gateway(
        "[c2dm]\n[fcm]\n[emulator]\n",
        node2dm=f"http_client = {client}",
        environment={**environment, "HOME": str(tmp_path), "CURL_HOME": str(tmp_path)},
    ).start()
    gateway.push(b"demo-phone:key:1", b"g|demo-phone:key:{}")
    gateway.wait_for(messages_sent=2)
    assert "hush" not in gateway.log


def test_a_variable_that_says_whom_to_trust_is_logged(make_gateway):
    """It is how some platforms say where their certificates are."""
    environment = {**os.environ, "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"}
    gateway = make_gateway(environment=environment).start()
    assert "SSL_CERT_FILE in the environment says which certificates are trusted" in gateway.log
