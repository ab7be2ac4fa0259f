"""Several applications in one gateway: C2DM and FCM side by side, against the emulator."""

import json
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.support.gateway import GatewayProcess
from tests.support.upstream import Answer, Upstream, upstream
from tests.support.waiting import wait_until

FCM = "[fcm]\n[emulator]\ndevice_quota = 1000000/s\n"


def seen(gateway: GatewayProcess) -> list[tuple[str, str, dict[str, str]]]:
    """What phones logged: phone, collapse key and data."""
    found = []
    for line in gateway.log.split("\n"):
        if " received collapse_key=" in line:
            head, _, rest = line.partition(" received collapse_key=")
            key, _, data = rest.partition(" data=")
            found.append((head.rpartition("phone ")[2], key, json.loads(data)))
    return found


@pytest.mark.parametrize("client", ["treq", "curl"])
def test_fcm_delivers_both_forms(make_gateway, client):
    """node2dm's line and the JSON form reach a phone through FCM HTTP v1."""
    gateway = make_gateway(FCM, node2dm=f"http_client = {client}").start()
    gateway.push(
        'demo-phone:greeting:{"hello":"größer 😀"}'.encode(),
        b'{"token": "demo-phone", "data": {"a": "1"}, "ttl": 60, "priority": "high"}',
        b'{"token": "demo-phone", "data": "now or never", "ttl": 0}',
        b'g|demo-phone::{"by": "prefix"}',
    )
    stats = gateway.wait_for(messages_sent=4)
    assert stats["http_client"] == client
    assert sorted(seen(gateway), key=str) == sorted(
        [
            ("demo-phone", "greeting", {"data": '{"hello":"größer 😀"}'}),
            ("demo-phone", "", {"a": "1"}),
            ("demo-phone", "", {"data": "now or never"}),
            ("demo-phone", "", {"data": '{"by": "prefix"}'}),
        ],
        key=str,
    )
    assert gateway.stats()["fcm.signed_in"] == "true"
    assert gateway.stats()["logged_in_to_c2dm"] == "true"
    assert "fcm.logged_in_to_c2dm" not in gateway.stats()


def test_a_line_finds_its_route_by_name_prefix_or_json(make_gateway):
    """The first route is meant where none is named; an unknown one is invalid."""
    config = "[c2dm]\nprefix = old\n[fcm:news]\nprefix = n\n" + FCM
    gateway = make_gateway(config).start()
    gateway.push(
        b"demo-phone:k:1",
        b"old|demo-phone:k:2",
        b"c2dm|demo-phone:k:3",
        b'n|demo-phone:k:{"n":4}',
        b'news|demo-phone:k:{"n":5}',
        b'fcm|demo-phone:k:{"n":6}',
        b'{"route": "n", "token": "demo-phone", "data": "7"}',
        b"who|demo-phone:k:8",
    )
    stats = gateway.wait_for(messages_sent=7, messages_invalid=1)
    assert [stats[f"{name}.messages_sent"] for name in ("c2dm", "news", "fcm")] == [3, 3, 1]
    assert stats["messages_invalid.unknown_route"] == 1


def test_what_fcm_cannot_carry_is_refused_at_the_door(make_gateway):
    """Reserved keys, size, and colons that leave no way to tell, each by its reason."""
    gateway = make_gateway(FCM).start()
    gateway.push(
        b'{"token": "t", "data": {"from": "x"}}',
        b'{"token": "t", "data": {"google.x": "x"}}',
        b"t:k:" + b"x" * 5_000,
        b"a:b:c:payload",
        b'{"token": "t", "delay_while_idle": true}',
    )
    stats = gateway.wait_for(messages_invalid=5)
    assert stats["messages_invalid.reserved"] == 2
    assert stats["messages_invalid.too_large"] == 1
    assert stats["messages_invalid.ambiguous"] == 1
    assert stats["messages_invalid.unsupported"] == 1


def test_a_dead_device_of_fcm_is_reported_after_ten_seconds(make_gateway):
    """UNREGISTERED reaches the webhook, not before the alarm could have held it."""
    hook = Upstream(lambda sent: Answer(b"")).start()
    try:
        callback = f"[callback]\nprotocol = http\nhost = 127.0.0.1\nport = {hook.port}\n"
        gateway = make_gateway(FCM + callback).start()
        gateway.push(b"demo-phone:k:{}", b"nobody:k:{}")
        stats = gateway.wait_for(messages_sent=1, messages_bad_device=1)
        began = time.monotonic()
        assert stats["callbacks_sent"] == 0
        gateway.wait_for(callbacks_sent=1)
        assert time.monotonic() - began > 8
        assert hook.requests[0].form["device_token"] == "nobody"
    finally:
        hook.stop()


def test_many_dead_devices_raise_the_alarm_and_hold_every_report(make_gateway):
    """Where most answers blame devices nothing is reported, until SIGHUP turns the alarm off."""
    hook = Upstream(lambda sent: Answer(b"")).start()
    try:
        callback = f"[callback]\nprotocol = http\nhost = 127.0.0.1\nport = {hook.port}\n"
        gateway = make_gateway(FCM + callback).start()
        gateway.push(*(b"nobody%d:k:{}" % n for n in range(30)))
        stats = gateway.wait_for(messages_bad_device=30)
        assert stats["bad_device_alarm"] == "true"
        assert "callbacks are held back" in gateway.log
        time.sleep(12)
        assert not hook.requests
        gateway.config = gateway.config.replace("[fcm]\n", "[fcm]\nbad_device_alarm = 0\n")
        gateway.write_config()
        gateway.process.send_signal(1)
        gateway.wait_for(callbacks_sent=30)
    finally:
        hook.stop()


def test_one_route_never_slows_another(make_gateway):
    """A wrong password, an exceeded quota, an upstream that is down: the others deliver."""
    over = upstream(lambda sent: Answer(b"Error=QuotaExceeded"))
    down = upstream(lambda sent: Answer(b"", 503, ("Retry-After: 600",)))
    wrong = Upstream(lambda sent: Answer(b"Error=BadAuthentication\n", 403)).start()
    try:
        with over as quota, down as unavailable:
            config = (
                FCM.replace("[fcm]\n", "[fcm]\ndevice_rate = 100000/s\n")
                + "[c2dm:good]\n"
                + quota.section().replace("[c2dm]", "[c2dm:quota]")
                + unavailable.section().replace("[c2dm]", "[c2dm:down]")
                + wrong.section().replace("[c2dm]", "[c2dm:wrong]")
            )
            gateway = make_gateway(config).start()
            gateway.push(b"quota|x:k:1", b"down|x:k:1", b"wrong|x:k:1")
            wait_until(lambda: "quota: locked" in gateway.log, "one is over its quota")
            for number in range(300):
                gateway.push(
                    b"good|demo-phone:k:%d" % number, b'fcm|demo-phone:k:{"n":%d}' % number
                )
            stats = gateway.wait_for(messages_sent=600, messages_in_queue=3)
            assert stats["good.messages_sent"] == stats["fcm.messages_sent"] == 300
            assert stats["logged_in_to_c2dm"] == "false"
            assert stats["backing_off"] == "true"
            assert (gateway.folder / "state" / "quota.lock.quota").exists()
            gateway.stop()
            gateway.start()
            stats = gateway.wait_for(messages_taken_over=3, messages_in_queue=3)
            gateway.push(b"good|demo-phone:k:again")
            gateway.wait_for(messages_sent=1)
    finally:
        wrong.stop()


def test_two_fcm_apps_and_one_of_c2dm_one_with_a_wrong_key(make_gateway, tmp_path):
    """The wrong key's route says what is wrong and keeps its pushes; the others deliver all."""
    gateway = make_gateway(FCM).start()
    state = gateway.folder / "state" / "emulator"
    key = json.loads((state / "service-account.json").read_text())
    gateway.stop()
    stranger = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    key["private_key"] = stranger.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    ).decode()
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps(key))
    wrong.chmod(0o600)
    gateway.config = f"[fcm:wrong]\nprefix = w\nservice_account = {wrong}\n[c2dm]\n" + FCM.replace(
        "[fcm]\n", "[fcm]\ndevice_rate = 100000/s\n"
    )
    gateway.start()
    for number in range(200):
        gateway.push(b'w|demo-phone:k:{"n":%d}' % number, b"c2dm|demo-phone:k:%d" % number)
        gateway.push(b'fcm|demo-phone:k:{"n":%d}' % number)
    stats = gateway.wait_for(messages_sent=400, messages_in_queue=200)
    assert stats["wrong.messages_in_queue"] == 200
    assert stats["fcm.messages_sent"] == stats["c2dm.messages_sent"] == 200
    assert "wrong: sign-in failed: " in gateway.log


KEYS = {
    "missing": (None, "No such file"),
    "not json": ("nonsense", "JSON"),
    "empty object": ("{}", "type"),
    "another type": ('{"type": "authorized_user"}', "type"),
    "no private key": (
        '{"type": "service_account", "client_email": "a@b", "token_uri": "https://x/"}',
        "private_key",
    ),
}


@pytest.mark.parametrize("fault", KEYS)
def test_a_key_file_that_is_none_is_told_in_a_line(make_gateway, fault):
    """Status 1, the section, the option, and what is wrong with the file."""
    text, said = KEYS[fault]
    gateway = make_gateway()
    if text is not None:
        (gateway.folder / "key.json").write_text(text)
    done = gateway.run("-n", config="[fcm]\nservice_account = key.json\n")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("[fcm] service_account = key.json: expected ")
    assert said in line


def test_a_key_file_that_all_can_read_is_warned_of(make_gateway):
    """It holds a secret as much as a password does."""
    gateway = make_gateway(FCM).start()
    key = gateway.folder / "state" / "emulator" / "service-account.json"
    gateway.stop()
    copy = gateway.folder / "key.json"
    copy.write_bytes(key.read_bytes())
    copy.chmod(0o644)
    gateway.config = FCM.replace("[fcm]\n", f"[fcm]\nservice_account = {copy}\n")
    gateway.start()
    assert f"{copy} contains a secret and can be read by other users" in gateway.log
    gateway.push(b"demo-phone:k:{}")
    gateway.wait_for(messages_sent=1)
