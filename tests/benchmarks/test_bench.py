"""The benchmark: its command, its report, and a real gateway that is measured."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.bench import Bench, spread
from benchmarks.gateway import CURL1, SUBJECTS
from benchmarks.machine import missing_requirements
from benchmarks.measure import measure
from benchmarks.meters import CPU, by_library, callgrind, total
from benchmarks.parts import PARTS
from benchmarks.parts.intake import post
from benchmarks.pushes import SIZE, datagram
from benchmarks.report import as_markdown
from benchmarks.steps import STEPS
from benchmarks.upstream import run_upstream
from node2dm_tw.config.load import load
from node2dm_tw.providers.c2dm import C2DM
from node2dm_tw.providers.fcm import FCM
from node2dm_tw.providers.oauth2 import read_key
from tests.support.tools import find
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bench(tmp_path):
    """A benchmark with a running upstream, and nothing measured yet."""
    with run_upstream(tmp_path) as upstream:
        yield Bench(tmp_path, upstream, quick=True)


def test_an_unknown_part_is_refused(capsys):
    """The parts there are, are named."""
    with pytest.raises(SystemExit):
        main(["speed"])
    assert "outage" in capsys.readouterr().err


def test_what_is_missing_is_said_before_anything_runs(monkeypatch, capsys):
    """The status is 2, and a part wants what it needs alone."""
    monkeypatch.setenv("PATH", "/nonexistent")
    assert any("nghttp2-client" in each for each in missing_requirements(["cpu"]))
    assert not any("nghttp2-client" in each for each in missing_requirements(["idle"]))
    assert main(["instructions"]) == 2
    assert "apt-get install valgrind" in capsys.readouterr().err


def test_the_report_names_figures_and_checks(tmp_path):
    """Parts share the rows of one table; a check that fails is the status of all."""
    bench = Bench(tmp_path, None)
    bench.rows[CURL1]["CPU us a push"] = spread([35.5, 34.75, 36.06])
    bench.rows[CURL1]["lost"] = "0"
    bench.below("instructions a push", 231_353, 240_000)
    assert bench.passed
    bench.below("CPU when idle", 0.01, 0.005, "{:.1%}")
    assert not bench.passed
    table, checks = as_markdown(bench, {}).split("\n\n")
    assert [len(line) for line in table.splitlines()].count(len(table.splitlines()[0])) == 3
    assert re.search(r"curl, HTTP/1.1 \| 35.5 \(34.8 to 36.1\) \| 0 ", table)
    assert re.search(r"holds \| instructions a push \| below 240,000 \| 231,353", checks)
    assert re.search(r"FAILS \| CPU when idle +\| below 0.5% +\| 1.0% ", checks)


@pytest.mark.parametrize(
    "provider", [C2DM("https://localhost/send"), FCM("https://localhost", lambda: 0.0)]
)
def test_every_push_is_of_one_size_and_valid(provider):
    """The greatest number and moment take no more bytes than the least; all services take them."""
    for number, moment in ((0, 0), (999_999_999_999, 9_223_372_036_854_775_807)):
        line = datagram(number, moment)
        assert len(line) == SIZE
        provider.validate(provider.split(line, 0.0))


def test_the_configuration_of_every_subject_is_understood(bench):
    """One route each, to the service of its subject, without a warning."""
    for name, subject in SUBJECTS.items():
        gateway = bench.make_gateway(**subject)
        gateway.write_config()
        settings = load(
            gateway.file, gateway.folder, lambda *_: {}, lambda key: read_key(key).project
        )
        assert [route.kind for route in settings.routes] == [subject.get("service", "c2dm")], name
        assert settings.warnings == ()


def test_a_gateway_is_measured(bench):
    """Its CPU, its memory, and that nothing was lost."""
    cost = measure(bench, SUBJECTS[CURL1], CPU(), 500)
    assert cost.lost == 0
    assert 0 < cost.used < 1
    assert cost.peak_memory > 10_000_000


def test_pushes_by_http_are_timed(bench):
    """Every request of a load is answered, and every push of it received."""
    with bench.gateway(by_http=True) as gateway:
        wait_until(lambda: gateway.stats()["signed_in"] == "true", "it signs in")
        found = post(gateway, 5, 100, 2)
        assert found["statuses"] == {"202": 40}
        assert 0 < found["p50"] <= found["p99"]
        assert found["rate"] > 10
        gateway.wait_for(messages_sent=200)


def test_callgrind_counts_each_step_of_a_push(tmp_path):
    """By its dumps: two files for each, which name the libraries."""
    if not find("valgrind"):
        pytest.skip("valgrind is not installed")
    file = tmp_path / "out"
    program = "import os; os.getppid(); sum(range(100_000)); os.getppid()"
    command = [
        *callgrind(file),
        "--dump-before=getppid",
        sys.executable,
        "-c",
        program,
    ]
    subprocess.run(command, check=True, capture_output=True)
    step = file.with_name("out.2")
    assert 100_000 < total(step) < total(file.with_name("out.1"))
    assert sum(by_library(step).values()) == total(step)


def test_every_step_runs():
    """They still fit the gateway; nothing is counted here."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.steps"], cwd=ROOT, check=True, capture_output=True
    )
    assert done.stderr == b""
    assert len(STEPS) == 9


@pytest.mark.long
def test_a_long_queue_does_not_stop_the_reactor(bench):
    """Neither while it fills nor while it drains with intake open, 20,000 pushes a second."""
    bench.quick = False
    PARTS["pauses"](bench)
    turn, collection = (float(measured.split()[0]) for *_, measured in bench.checks)
    assert re.search(r"with (9\d\d|1,000),\d\d\d queued", bench.checks[0][1])
    assert collection < 20
    # The bound of a whole turn is the benchmark's: here others may use the machine as well.
    assert turn < 60
