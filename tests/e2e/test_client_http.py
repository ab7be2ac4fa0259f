"""HTTPPushClient and node2dm-push --http with a real gateway: receipts, refusals, restarts."""

import json
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from node2dm_tw.cli.push import main
from node2dm_tw.client import Push
from node2dm_tw.client_http import HTTPPushClient, InvalidPushes, RequestError
from tests.e2e.test_push_command import COMMAND
from tests.e2e.test_reload import reload
from tests.support.gateway import GatewayProcess
from tests.support.ports import free_port
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
TOKEN = "the-token-of-this-test"
CSV = "id,token,collapse_key,data\n"


@pytest.fixture
def web() -> int:
    return free_port()


@pytest.fixture
def url(web: int) -> str:
    return f"http://127.0.0.1:{web}"


@pytest.fixture
def gateway(make_gateway: Callable[..., GatewayProcess], web: int) -> GatewayProcess:
    """A gateway that takes pushes by HTTP."""
    node2dm = f"web = tcp:{web}:interface=127.0.0.1\npush_token = {TOKEN}"
    return make_gateway(node2dm=node2dm).start()


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    (tmp_path / "push-token").write_text(f"{TOKEN}\n", encoding="utf-8")
    return str(tmp_path / "push-token")


def test_pushes_and_their_outcomes(gateway: GatewayProcess, url: str) -> None:
    """Ids in order, mine and the gateway's; the outcome of each is known once it has ended."""
    with HTTPPushClient(url, TOKEN) as client:
        assert client.push("demo-phone", "x", "k", id="mine") == "mine"
        pushes = [Push("demo-phone", "x", f"k{n}", id=f"id-{n}") for n in range(2_100)]
        pushes += [Push("demo-phone", "x", f"k{n}") for n in range(100)]
        ids = client.push_many(pushes)
        assert ids[:2_100] == [push.id for push in pushes[:2_100]]
        assert len({*ids}) == 2_200
        gone = client.push("no-such-phone", "x", "k")
        gateway.wait_for(messages_sent=2_201, messages_bad_device=1, messages_in_queue=0)
        for push_id, outcome in {"mine": "sent", ids[-1]: "sent", gone: "bad_device"}.items():
            found = client.get(push_id)
            assert found is not None
            assert (found["id"], found["outcome"]) == (push_id, outcome)
        assert client.get("never-was") is None


def test_what_the_gateway_refuses(gateway: GatewayProcess, url: str, web: int) -> None:
    """Each refusal is one exception, with the status and what is expected; nothing is sent."""
    with HTTPPushClient(url, "another-token") as client:
        for ask in (lambda: client.push("demo-phone", "x", "k"), lambda: client.get("x")):
            with pytest.raises(RequestError, match=r"401 .*expected the header") as raised:
                ask()
            assert raised.value.status == 401
    with HTTPPushClient(url, TOKEN) as client:
        pushes = [Push("demo-phone", "x", "k") for _ in range(1_500)]
        pushes[1_234] = Push("demo-phone", "x")
        pushes[1_300] = Push("demo-phone", "x", "k", priority="high")
        with pytest.raises(InvalidPushes) as invalid:
            client.push_many(pushes)
        faults = invalid.value.faults
        assert [(each.index, each.field, each.reason) for each in faults] == [
            (1_234, "collapse_key", "collapse_key"),
            (1_300, "priority", "unsupported"),
        ]
        assert len(invalid.value.accepted) == 1_000
        with pytest.raises(RequestError, match=r"413 .*at most 1000"):
            client.send([b'{"token":"demo-phone","collapse_key":"k"}'] * 1_001)
        with pytest.raises(RequestError, match=r"40[45] "):
            HTTPPushClient(f"{url}/nowhere", TOKEN).push("demo-phone", "x", "k")
    stats = gateway.wait_for(messages_received=1_000, messages_invalid=2)
    assert stats["messages_sent"] + stats["messages_in_queue"] == 1_000


def test_without_a_push_token(make_gateway: Callable[..., GatewayProcess], web: int) -> None:
    """The gateway says which option is missing."""
    make_gateway(node2dm=f"web = tcp:{web}:interface=127.0.0.1").start()
    with HTTPPushClient(f"http://127.0.0.1:{web}", TOKEN) as client:
        with pytest.raises(RequestError, match=r"403 .*needs a push_token") as raised:
            client.push("demo-phone", "x", "k")
        assert raised.value.status == 403


def test_a_queue_that_is_full(make_gateway: Callable[..., GatewayProcess], url: str, web: int):
    """The request is repeated while there is no room, and accepted once there is."""
    options = f"web = tcp:{web}:interface=127.0.0.1\npush_token = {TOKEN}\nmax_queued = "
    away = f"[fcm]\nurl = https://127.0.0.1:{free_port()}\n[emulator]\n"
    gateway = make_gateway(away, node2dm=f"{options}10").start()
    pushes = [Push("demo-phone", "x") for _ in range(8)]
    with HTTPPushClient(url, TOKEN, retry_for=0) as client:
        assert len(client.push_many(pushes)) == 8
        with pytest.raises(RequestError, match="503 ") as raised:
            client.push_many(pushes)
        assert raised.value.status == 503
    gateway.wait_for(messages_received=8)
    found: list[str] = []
    before = gateway.log.count("turned away")
    with HTTPPushClient(url, TOKEN, retry_for=300) as client:
        thread = threading.Thread(target=lambda: found.extend(client.push_many(pushes)))
        thread.start()
        wait_until(lambda: gateway.log.count("turned away") > before, "it is turned away")
        gateway.node2dm = f"{options}100"
        reload(gateway, "reloaded: [node2dm] max_queued")
        thread.join(60)
    assert len(found) == 8
    assert gateway.stats()["messages_received"] == 16


def test_a_gateway_that_restarts(gateway: GatewayProcess, url: str) -> None:
    """Eight threads push meanwhile: each push is accepted once, and none is refused."""
    pushed: list[str] = []
    stop = threading.Event()

    def work(client: HTTPPushClient, name: int) -> None:
        for number in range(10_000):
            if stop.is_set():
                return
            pushed.append(client.push("demo-phone", "x", f"{name}-{number}", id=f"{name}-{number}"))

    with HTTPPushClient(url, TOKEN, retry_for=60) as client:
        threads = [threading.Thread(target=work, args=(client, name)) for name in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(2):
            count = len(pushed)
            wait_until(lambda: len(pushed) > count + 200, "pushes are accepted")  # noqa: B023
            assert gateway.stop() in (0, -15)
            gateway.start()
        count = len(pushed)
        wait_until(lambda: len(pushed) > count + 200, "pushes are accepted again")
        stop.set()
        for thread in threads:
            thread.join(60)
    wait_until(lambda: gateway.stats()["messages_in_queue"] == 0, "everything is sent")
    received = re.findall(r"collapse_key=(\d+-\d+)", gateway.log)
    assert {*received} >= {*pushed}


def lose_first_answer(listener: socket.socket, web: int, answers: list[bytes]) -> None:
    """Carry two requests to the gateway, each on its connection; only the second is answered."""
    for is_lost in (True, False):
        client, _ = listener.accept()
        with client, socket.create_connection(("127.0.0.1", web)) as gateway:
            request = b""
            while b'"token"' not in request:
                request += client.recv(65_536)
            gateway.sendall(request)
            answers.append(gateway.recv(65_536))
            if not is_lost:
                client.sendall(answers[-1])


def test_an_answer_that_is_lost(gateway: GatewayProcess, web: int) -> None:
    """The gateway has the push, the client does not know: the repetition is not another push."""
    answers: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lose_first_answer, args=(listener, web, answers))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with HTTPPushClient(url, TOKEN) as client:
            push_id = client.push("demo-phone", "x", "k")
        thread.join(60)
    for answer in answers:
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["ids"] == [push_id]
    assert len(answers) == 2
    assert gateway.wait_for(messages_sent=1)["messages_received"] == 1


def test_https(make_gateway: Callable[..., GatewayProcess], web: int, tmp_path: Path) -> None:
    """With a CA file the gateway's certificate is verified; without it no token leaves."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    endpoint = f"ssl:{web}:interface=127.0.0.1:privateKey={tmp_path}/key.pem"
    node2dm = f"web = {endpoint}:certKey={tmp_path}/cert.pem\npush_token = {TOKEN}"
    gateway = make_gateway(node2dm=node2dm).start()
    url = f"https://127.0.0.1:{web}"
    with HTTPPushClient(url, TOKEN, ca_file=tmp_path / "ca.pem") as client:
        assert client.push("demo-phone", "x", "k", id="safe") == "safe"
    untrusting = HTTPPushClient(url, TOKEN, retry_for=60)
    with untrusting, pytest.raises(RequestError, match="certificate verify failed"):
        untrusting.push("demo-phone", "x", "k")
    assert gateway.wait_for(messages_sent=1)["messages_received"] == 1


# node2dm-push --http


def run(*arguments: str, rows: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        input=rows,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_prints_the_ids(gateway: GatewayProcess, url: str, token_file: str) -> None:
    """One push: its id alone; many: theirs in order, and a summary on standard error."""
    at = ["--http", url, "--token-file", token_file]
    one = run("demo-phone", "x", "--collapse-key", "k", "--id", "mine", *at)
    assert (one.returncode, one.stdout, one.stderr) == (0, "mine\n", "")
    file = Path(token_file).with_name("rows.csv")
    rows = "".join(f"id-{n},demo-phone,k{n},x\n" for n in range(450))
    file.write_text(CSV + rows, encoding="utf-8")
    many = run("--from", str(file), "--rate", "1000", *at)
    assert many.returncode == 0
    assert many.stdout == "".join(f"id-{n}\n" for n in range(450))
    assert many.stderr == ("node2dm-push: accepted: 450 (requests: 3), faulty: 0, not sent: 0\n")
    made = run("--from", "-", *at, rows='{"token":"demo-phone","collapse_key":"k"}\n' * 2)
    assert len({*made.stdout.splitlines()}) == 2
    assert made.stderr.startswith("node2dm-push: accepted: 2 (requests: 2)")
    gateway.wait_for(messages_sent=453)


def test_the_command_skips_what_the_gateway_calls_invalid(
    gateway: GatewayProcess, url: str, token_file: str
) -> None:
    """By line number and field; the others are accepted. With --strict those before it are."""
    file = Path(token_file).with_name("rows.csv")
    rows = [f"id-{n},demo-phone,k{n},x" for n in range(400)]
    rows[1], rows[250], rows[399] = "id-1,a b,k,x", "id-250,demo-phone,,x", "id-399,demo-phone,,x"
    file.write_text(CSV + "\n".join(rows), encoding="utf-8")
    at = ["--from", str(file), "--http", url, "--token-file", token_file]
    done = run(*at)
    assert done.returncode == 1
    accepted = [f"id-{n}" for n in range(400) if n not in (1, 250, 399)]
    assert done.stdout.splitlines() == accepted
    assert re.findall(r"line (\d+): (\w+)", done.stderr) == [
        ("3", "token"),
        ("252", "collapse_key"),
        ("401", "collapse_key"),
    ]
    assert done.stderr.endswith("accepted: 397 (requests: 2), faulty: 3, not sent: 0\n")
    rows[1] = rows[0]
    file.write_text(CSV + "\n".join(rows), encoding="utf-8")
    strict = run(*at, "--strict")
    assert strict.returncode == 1
    assert len(strict.stdout.splitlines()) == 250
    assert "stopped; go on with --from-line 252" in strict.stderr
    rest = run(*at, "--from-line", "253")
    assert rest.stdout.splitlines() == [f"id-{n}" for n in range(251, 399)]


def test_the_command_stops_where_the_gateway_refuses(
    gateway: GatewayProcess, url: str, token_file: str
) -> None:
    """Once, and names the line to go on with."""
    file = Path(token_file).with_name("rows.csv")
    file.write_text(CSV + "".join(f"id-{n},demo-phone,k,x\n" for n in range(900)), "utf-8")
    Path(token_file).write_text("another\n", "utf-8")
    at = ["--http", url, "--token-file", token_file]
    done = run("--from", str(file), *at)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("401 the push_token is another one") == 1
    assert "stopped; go on with --from-line 1\n" in done.stderr
    assert done.stderr.endswith("accepted: 0 (requests: 0), faulty: 0, not sent: 200\n")
    one = run("demo-phone", "x", *at)
    assert one.returncode == 1
    assert one.stderr.count("\n") == 1
    assert "line 1: not sent: " in one.stderr


def test_one_push_that_is_invalid(gateway: GatewayProcess, url: str, token_file: str) -> None:
    """Status 2, as by UDP; nothing was sent."""
    done = run("demo-phone", "x", "--http", url, "--token-file", token_file)
    assert (done.returncode, done.stdout) == (2, "")
    assert "collapse_key: the collapse key is empty" in done.stderr
    assert gateway.stats()["messages_received"] == 0


def test_the_command_prints_requests_without_sending_them(tmp_path: Path) -> None:
    """The JSON form alone; no gateway and no token are needed."""
    done = run("T", "x", "--collapse-key", "k", "--http", "http://127.0.0.1:1", "--dry-run")
    assert done.stdout == '{"token":"T","data":"x","collapse_key":"k"}\n\n'


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--http", "http://127.0.0.1:1"], "--http needs --token-file FILE"),
        (["--token-file", "FILE"], "--token-file and --ca-file need --http URL"),
        (["--ca-file", "FILE"], "--token-file and --ca-file need --http URL"),
        (
            ["--http", "127.0.0.1:1", "--token-file", "FILE"],
            "url = '127.0.0.1:1': expected http://",
        ),
        (["--http", "http://a", "--token-file", "FILE", "--confirm", "a:1"], "are for UDP"),
        (["--http", "http://a", "--token-file", "FILE", "--key-file", "FILE"], "are for UDP"),
        (["--http", "http://a", "--token-file", "nowhere"], "nowhere: No such file"),
        (
            ["--http", "https://a", "--token-file", "FILE", "--ca-file", "nowhere"],
            "nowhere: No such",
        ),
        (["--key-file", "EMPTY"], "EMPTY is empty"),
        (["--from", "-", "--id", "x"], "--id names one push"),
        (["--id", "a b"], "id = 'a b': expected 1 to 64"),
    ],
)
def test_usage(
    arguments: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 2; nothing is sent."""
    (tmp_path / "FILE").write_text("a-key-of-16-bytes", "utf-8")
    (tmp_path / "EMPTY").touch()
    names = {name: str(tmp_path / name) for name in ("FILE", "EMPTY")}
    target = [] if "--from" in arguments else ["T", "x"]
    with pytest.raises(SystemExit) as ended:
        main([*target, *(names.get(each, each) for each in arguments)])
    assert ended.value.code == 2
    assert reason in capsys.readouterr().err


def test_an_interrupt_by_http(gateway: GatewayProcess, url: str, token_file: str) -> None:
    """The two runs together push each row once."""
    file = Path(token_file).with_name("rows.csv")
    file.write_text(CSV + "".join(f"id-{n},demo-phone,k{n},x\n" for n in range(2_000)), "utf-8")
    at = ["--from", str(file), "--http", url, "--token-file", token_file]
    first = subprocess.Popen(
        [shutil.which("env") or "env", "--default-signal=INT", *COMMAND, *at, "--rate", "500"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert first.stdout is not None
    ids = [first.stdout.readline() for _ in range(100)]
    first.send_signal(signal.SIGINT)
    more, said = first.communicate(timeout=60)
    assert first.returncode == 130
    found = re.search(r"interrupted; go on with --from-line (\d+)", said)
    assert found is not None
    rest = run(*at, "--from-line", found[1], "--rate", "5000")
    assert rest.returncode == 0
    assert "".join(ids) + more + rest.stdout == "".join(f"id-{n}\n" for n in range(2_000))
    assert gateway.wait_for(messages_sent=2_000)["messages_received"] == 2_000


def test_the_documented_commands(gateway: GatewayProcess, web: int) -> None:
    """Each command of the page ends with status 0, and prints the ids."""
    page = (ROOT / "docs/application-servers.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (commands,) = (block for block in blocks if "--http" in block)
    commands = commands.replace("8122", str(web)).replace("node2dm-push", " ".join(COMMAND))
    (gateway.folder / "push-token").write_text(f"{TOKEN}\n", "utf-8")
    (gateway.folder / "devices.csv").write_text("id,token,collapse_key\nmine,demo-phone,k\n")
    subprocess.run(["bash", "-euo", "pipefail", "-c", commands], cwd=gateway.folder, check=True)
    assert (gateway.folder / "ids").read_text("ascii") == "mine\n"
    stats = gateway.wait_for(messages_received=2, messages_in_queue=0)
    assert stats["messages_invalid"] == 0
