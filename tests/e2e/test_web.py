"""The views of a real gateway: they agree, and the page works in a real browser."""

import json
import os
import re
import signal
import socket
import threading
import urllib.error
import urllib.request
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from node2dm_tw.admin.lines import is_counter
from node2dm_tw.admin.metric_names import LABELLED, PROCESS, ROUTE
from tests.support.gateway import telnet
from tests.support.ports import free_port
from tests.support.tools import module
from tests.support.upstream import Answer, upstream
from tests.support.waiting import wait_until

TOKEN = "APA91bHun4MxP5egoKMwt2KZFBaFUH-1RYqx"
MOVING = {"uptime", "token_age", "token_left", "memory_rss", "memory_heapTotal", "memory_heapUsed"}
"""Lines that differ between two looks at a gateway at rest."""


def answer(sent):
    """An upstream that does something of everything."""
    device = sent.form["registration_id"]
    if device.startswith("bad"):
        return Answer(b"Error=NotRegistered")
    if device.startswith("over"):
        return Answer(b"Error=DeviceQuotaExceeded")
    if device.startswith("big"):
        return Answer(b"Error=MessageTooBig")
    return Answer(b"id=1")


def get(port, path):
    """The status and the body of a page of the gateway."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def with_web(make_gateway, google, more="", node2dm=""):
    web = free_port()
    gateway = make_gateway(
        google.section() + more, node2dm=f"web = tcp:{web}:interface=127.0.0.1\n{node2dm}"
    )
    return web, gateway


def telnet_lines(gateway):
    pairs = (line.partition(": ") for line in telnet(gateway.stats_port).splitlines())
    return {n: value.removesuffix(" seconds").removesuffix(".0") for n, _, value in pairs}


def as_text(value):
    return str(value).lower() if isinstance(value, bool) else f"{value}".removesuffix(".0")


def flat(values):
    """Totals and routes as telnet names them."""
    lines = {name: as_text(value) for name, value in values["totals"].items()}
    for route, numbers in values["routes"].items():
        lines |= {f"{route}.{name}": as_text(value) for name, value in numbers.items()}
    return lines


def at_rest(lines):
    return {n: v for n, v in lines.items() if n.rpartition("c2dm.")[2] not in MOVING}


def page_lines(chromium, web):
    chromium.open(f"http://127.0.0.1:{web}/")
    chromium.wait("return document.documentElement.dataset.when", "the page is told something")
    chromium.run("document.getElementById('all').open = true")
    rows = chromium.wait(
        "return [...document.querySelectorAll('[data-stat]')]"
        ".map(cell => [cell.dataset.route, cell.dataset.stat, cell.textContent])",
        "all numbers are shown",
    )
    return {f"{route}.{name}" if route else name: text for route, name, text in rows if text}


def metric_lines(web):
    """/metrics by the lines of the stats that they come from."""
    prometheus = module("prometheus_client.parser")
    found = {}
    for family in prometheus.text_string_to_metric_families(get(web, "/metrics")[1].decode()):
        for sample in family.samples:
            name = sample.name.removeprefix("node2dm_").removesuffix("_total")
            labels = dict(sample.labels)
            route = labels.pop("route", None)
            found[name, route, *labels.values()] = sample.value
    lines = {}
    for line, (name, _) in {**ROUTE, **PROCESS}.items():
        for route in (None, "c2dm"):
            if (name, route) in found:
                lines[f"{route}.{line}" if route else line] = found[name, route]
    for name, (_, _, values) in LABELLED.items():
        lines |= {f"c2dm.{line}": found[name, "c2dm", value] for value, line in values.items()}
    for line in ("messages_invalid", "messages_refused"):
        for key, value in found.items():
            if key[0] == line and key[-1] != key[0]:
                lines[f"{'c2dm.' if key[1] else ''}{line}.{key[-1]}"] = value
    return lines


def statsd_lines(datagrams):
    """What a statsd would know: counters summed up, the last value of gauges."""
    lines = {}
    for line in b"\n".join(datagrams).decode().split("\n"):
        name, value, kind = re.fullmatch(r"node2dm\.(\S+):([\d.]+)\|([cg])", line).groups()
        lines[name] = float(value) + (lines.get(name, 0.0) if kind == "c" else 0.0)
    return lines


def same_numbers(some, telnet_says):
    """Each number of `some` is what telnet says; words of truth are 0 and 1."""
    words = {"true": 1.0, "false": 0.0}
    for name, value in some.items():
        said = telnet_says[name]
        assert value == words.get(said, None if said in words else float(said)), name


def test_all_views_agree(make_gateway, chromium):
    """After a scenario telnet, /stats, /metrics, statsd and the page show the same numbers."""
    with upstream(answer) as google, closing(socket.socket(type=socket.SOCK_DGRAM)) as statsd:
        statsd.bind(("127.0.0.1", 0))
        statsd.settimeout(60)
        section = f"[statsd]\nhost = localhost\nport = {statsd.getsockname()[1]}\ninterval = 1\n"
        web, gateway = with_web(make_gateway, google, section)
        gateway.start()
        gateway.push(*(b"phone%d:key:x" % n for n in range(50)), b"nonsense", b"bad:key:x")
        gateway.push(b"big:key:x", b"over:key:x")
        gateway.wait_for(messages_sent=50, messages_bad_device=1, messages_blocked=1)
        gateway.push(b"over:key:y")
        gateway.wait_for(messages_blocked=2, messages_in_queue=0)

        lines = telnet_lines(gateway)
        assert lines["messages_refused.MessageTooBig"] == "1"
        json_lines = flat(json.loads(telnet(gateway.stats_port, b"stats json\r\nquit\r\n")))
        stats = json.loads(get(web, "/stats")[1])
        assert at_rest(json_lines) == at_rest(flat(stats)) == at_rest(lines)
        assert json_lines.keys() == lines.keys()
        page = page_lines(chromium, web)
        assert page.keys() == lines.keys()
        assert {n: v.removesuffix(".0") for n, v in at_rest(page).items()} == at_rest(lines)
        metrics = metric_lines(web)
        same_numbers(at_rest(metrics), lines)
        of_route = {name for name in lines if name.startswith("c2dm.")}
        texts = {
            "state",
            "state_reason",
            "state_advice",
            "renewal_error",
            "http_client",
            "logged_in_to_c2dm",
        }
        assert of_route - metrics.keys() == {f"c2dm.{t}" for t in texts} & of_route
        datagrams = []
        wait_until(lambda: datagrams.append(statsd.recv(65_536)) or len(datagrams) > 8, "reports")
        numbers = {n for n, v in lines.items() if re.fullmatch(r"[\d.]+|true|false", v)} - {
            "version"
        }
        told = statsd_lines(datagrams)
        same_numbers(at_rest(told), lines)
        missing = numbers - told.keys() - {"version"}
        assert all(is_counter(n.removeprefix("c2dm.")) and lines[n] == "0" for n in missing)


def test_the_page_in_a_browser(make_gateway, chromium, artefacts):
    """States, errors with shortened tokens, invalid pushes; no complaint of the browser."""
    down = False

    def sometimes(sent):
        return Answer(b"", 503, ("Retry-After: 50",)) if down else answer(sent)

    with upstream(sometimes) as google:
        web, gateway = with_web(make_gateway, google)
        gateway.start()
        gateway.push(*(b"phone%d:key:x" % n for n in range(30)))
        gateway.push(f"bad{TOKEN}:key:x".encode(), f"over{TOKEN}:key:x".encode(), b"big:key:x")
        gateway.push(b'{"token":"hush","collapse_key":"k","ttl":"hush"}')
        gateway.wait_for(messages_sent=30, messages_bad_device=1, messages_blocked=1)
        chromium.look_like(1280, 900)
        chromium.log()
        chromium.open(f"http://127.0.0.1:{web}/")
        chromium.wait("return document.querySelectorAll('#errors tbody tr').length == 4", "errors")
        text = chromium.run("return document.body.innerText")
        assert "NotRegistered" in text
        assert "badAPA91bH..." in text
        assert "overAPA91b..." in text
        assert "field: ttl must be a whole number of seconds" in text
        assert "from 127.0.0.1:" in text
        assert "hush" not in text
        assert TOKEN not in chromium.run("return document.documentElement.outerHTML")
        down = True
        gateway.push(b"phone:key:x")
        words = chromium.wait(
            "const t = document.querySelector('.routes .pill').textContent;"
            "return t.startsWith('paused') && t",
            "the page says that the route is paused",
        )
        assert re.fullmatch(r"paused (49|50|48) s more: 503, Retry-After", words)
        chromium.wait("return document.title == 'paused · node2dm'", "the title says it too")
        assert get(web, "/readyz")[0] == 200
        chromium.screenshot(artefacts / "page-light.png")
        chromium.look_like(1280, 900, dark=True)
        chromium.screenshot(artefacts / "page-dark.png")
        assert chromium.log() == []


def test_the_page_on_a_phone(make_gateway, chromium, artefacts):
    """Nothing is wider than the screen, in light and in dark, with every number open."""
    with upstream(answer) as google:
        web, gateway = with_web(make_gateway, google)
        gateway.start()
        gateway.push(b"phone:key:x", b"bad:key:x", b'{"token":"a b"}')
        gateway.wait_for(messages_sent=1, messages_bad_device=1, messages_invalid=1)
        for dark in (False, True):
            chromium.look_like(360, 740, dark=dark)
            assert page_lines(chromium, web)
            widest = "return document.documentElement.scrollWidth"
            assert chromium.run(widest) <= 360
            chromium.screenshot(artefacts / f"phone-{'dark' if dark else 'light'}.png")
        colours = chromium.run(
            "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
        )
        assert colours == ["rgb(231, 237, 243)", "rgb(14, 18, 23)"]
        chromium.look_like(1280, 900)


def focus(chromium):
    return chromium.run(
        "const e = document.activeElement;"
        "return e.id || e.getAttribute('aria-label') || e.textContent.trim()"
    )


def test_the_page_by_keyboard_and_screen_reader(make_gateway, chromium):
    """Everything that can be used is reached by the tab key, and everything has a name."""
    with upstream(answer) as google:
        web, gateway = with_web(make_gateway, google)
        gateway.start()
        gateway.push(b"phone:key:x")
        gateway.wait_for(messages_sent=1)
        chromium.open(f"http://127.0.0.1:{web}/")
        plot = "document.querySelector('#rates svg')"
        chromium.wait(f"return {plot}.getAttribute('aria-valuetext')", "a point is plotted")
        stops = []
        for _ in range(6):
            chromium.press("\ue004")
            stops.append(focus(chromium))
        assert stops[0] == "Skip to the routes"
        assert [stop.partition(",")[0] for stop in stops[1:4]] == [
            "Pushes a second",
            "Pushes in the queue",
            "Age of the next push",
        ]
        assert stops[4:] == ["Send a test push", "All values"]
        chromium.press("\ue007")
        assert chromium.run("return document.getElementById('all').open")
        chromium.run(f"{plot}.focus()")
        value = f"return {plot}.getAttribute('aria-valuetext')"
        assert re.match(r"now: received [\d.]+, sent [\d.]+, failed 0", chromium.run(value))
        chromium.wait(f"return {plot}.getAttribute('aria-valuenow') == 449", "the newest point")
        chromium.press("\ue011")
        nodes = chromium.devtools("Accessibility.getFullAXTree")["nodes"]
        named = {
            (n["role"]["value"], n.get("name", {}).get("value")) for n in nodes if not n["ignored"]
        }
        assert {("heading", "node2dm"), ("heading", "Routes"), ("rowheader", "c2dm")} <= named
        assert {("columnheader", "State"), ("table", "")} & named
        assert not [
            role for role, name in named if role in ("slider", "region", "link") and not name
        ]
        chromium.run("document.activeElement.blur()")


def test_the_page_lives_through_a_restart(make_gateway, chromium):
    """It says that the connection is lost, and goes on when the gateway is back."""
    with upstream(answer) as google:
        web, gateway = with_web(make_gateway, google)
        gateway.start()
        chromium.open(f"http://127.0.0.1:{web}/")
        live = "return document.getElementById('live').textContent"
        chromium.wait(f"{live} == 'live'", "it is live")
        gateway.stop()
        badge = (
            "const b = document.getElementById('ready'); return b.className + ': ' + b.textContent"
        )
        chromium.wait(f"{badge} == 'pill bad: connection lost'", "it says so")
        assert chromium.run("return document.title") == "connection lost · node2dm"
        assert re.fullmatch(r"values of .*\d.*, trying again", chromium.run(live))
        gateway.start()
        chromium.wait(f"{live} == 'live'", "it is live again")
        chromium.wait(f"{badge} == 'pill good: ready'", "and shows the route")
        assert chromium.run("return document.title") == "node2dm"
        chromium.log()


@contextmanager
def bad_gateway(port):
    """A proxy that has lost what is behind it, on the gateway's own port."""
    asked = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(502)
            asked.set()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join()


def test_the_page_lives_through_a_proxys_error(make_gateway, chromium):
    """A browser gives up on a stream that is answered with a 502; the page does not."""
    with upstream(answer) as google:
        web, gateway = with_web(make_gateway, google)
        gateway.start()
        chromium.open(f"http://127.0.0.1:{web}/")
        live = "return document.getElementById('live').textContent"
        chromium.wait(f"{live} == 'live'", "it is live")
        gateway.stop()
        with bad_gateway(web) as asked:
            wait_until(asked.is_set, "the page tries again")
        gateway.start()
        chromium.wait(f"{live} == 'live'", "it is live again")
        chromium.log()


def test_the_page_notices_that_nothing_comes_any_more(make_gateway, chromium):
    """A gateway that hangs closes no connection."""
    with upstream(answer) as google:
        web, gateway = with_web(make_gateway, google)
        gateway.start()
        chromium.open(f"http://127.0.0.1:{web}/")
        badge = "return document.getElementById('ready').textContent"
        chromium.wait(f"{badge} == 'ready'", "it is live")
        gateway.process.send_signal(signal.SIGSTOP)
        try:
            chromium.wait(f"{badge} == 'connection lost'", "it says so")
        finally:
            gateway.process.send_signal(signal.SIGCONT)
        chromium.wait(f"{badge} == 'ready'", "it is live again")
        chromium.log()


def test_readiness_of_a_real_gateway(make_gateway):
    """Ready once signed in; while a route is paused unless it is asked for; not while it drains."""
    down = False

    def sometimes(sent):
        return Answer(b"", 503, ("Retry-After: 50",)) if down else Answer(delay=1.5)

    with upstream(sometimes) as google:
        web, gateway = with_web(make_gateway, google)
        gateway.start()
        wait_until(lambda: get(web, "/readyz?route=c2dm")[0] == 200, "it is ready")
        gateway.push(b"phone:key:x")
        wait_until(lambda: gateway.stats()["messages_in_flight"] == 1, "a push is under way")
        gateway.process.terminate()
        _, body = wait_until(lambda: (r := get(web, "/readyz"))[0] == 503 and r, "it drains")
        assert json.loads(body)["reasons"] == ["draining"]
        gateway.stop()
        down = True
        gateway.start()
        gateway.push(b"phone:key:x")
        wait_until(lambda: get(web, "/readyz?route=c2dm")[0] == 503, "the route is paused")
        assert get(web, "/readyz")[0] == 200
        health = telnet(gateway.stats_port, b"health\r\nquit\r\n").splitlines()
        assert health[0] == "ready"
        assert health[1].startswith("c2dm: paused ")
        config = telnet(gateway.stats_port, b"config\r\nquit\r\n")
        assert "password = ***" in config
        assert "secret-word" not in config


def test_json_lines(make_gateway):
    """Each line of the log is an object; the level of a part may differ."""
    with upstream(answer) as google:
        web, gateway = with_web(
            make_gateway, google, node2dm="log_format = json\nlog_level = error, service=info"
        )
        gateway.start()
        gateway.push(b"big:key:x")
        gateway.wait_for(messages_refused=1)
        gateway.stop()
        lines = [json.loads(line) for line in gateway.log.splitlines()]
        ours = [line for line in lines if line["logger"].startswith("node2dm_tw")]
        assert {line["logger"] for line in ours} == {"node2dm_tw.app.service"}
        (started,) = [line for line in ours if "started: pushes on" in line["message"]]
        assert started["level"] == "info"
        assert started["version"]
        assert started["time"].endswith("+00:00")
        assert web


def test_without_the_extra_the_rest_goes_on(make_gateway, tmp_path):
    """The start says which one is missing, and so does /metrics."""
    (tmp_path / "prometheus_client.py").write_text("raise ImportError", encoding="utf-8")
    path = f"{tmp_path}:{Path(__file__).parents[2]}"
    with upstream(answer) as google:
        web, gateway = with_web(make_gateway, google)
        gateway.environment = {**os.environ, "PYTHONPATH": path}
        gateway.start()
        said = "/metrics is disabled: it needs prometheus-client"
        wait_until(lambda: said in gateway.log, "the start says it")
        status, body = get(web, "/metrics")
        assert status == 501
        assert b"pip install prometheus-client" in body
        assert get(web, "/stats")[0] == 200


def test_a_web_port_that_is_taken(make_gateway):
    """Is one line, and status 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        gateway = make_gateway(node2dm=f"web = tcp:{port}:interface=127.0.0.1")
        done = gateway.run("-n")
        assert done.returncode == 1
        assert f"web cannot listen on 127.0.0.1:{port}" in done.stdout + done.stderr
