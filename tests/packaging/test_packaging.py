"""What is built installs into an empty environment, and runs there."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.gateway import GatewayProcess
from tests.support.tools import tool
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
PLUGIN = "twisted/plugins/node2dm_plugin.py"
NOT_SOURCE = shutil.ignore_patterns(
    ".git", ".venv", "run", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis"
)

pytestmark = pytest.mark.slow


def environment():
    """Ours, without what would let an installation see this checkout.

    pip keeps to the versions of the checkout, unless PIP_CONSTRAINT is there and says otherwise.
    """
    constraints = os.environ.get("PIP_CONSTRAINT", "constraints.txt")
    made = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    file = constraints and (ROOT / constraints).as_uri()
    return made | {"PIP_CONSTRAINT": file, "PIP_BUILD_CONSTRAINT": file}


def call(*command, cwd):
    """Run a program; its output."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def copy_of_checkout(folder):
    copy = folder / "checkout"
    shutil.copytree(ROOT, copy, ignore=NOT_SOURCE)
    return copy


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """The folder with sdist and wheel, the wheel built from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    checkout = copy_of_checkout(folder)
    (checkout / "twisted/plugins/dropin.cache").write_bytes(b"")
    call(sys.executable, "-m", "build", "--outdir", folder, cwd=checkout)
    return folder


@pytest.fixture(scope="module")
def sdist(dist):
    (file,) = dist.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


@pytest.fixture(scope="module")
def wheel(dist):
    (file,) = dist.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(tmp_path_factory, wheel):
    """An environment in which there was nothing, and then the wheel and what it asks for."""
    venv = tmp_path_factory.mktemp("installed") / "venv"
    call(sys.executable, "-m", "venv", venv, cwd=venv.parent)
    call(venv / "bin/python", "-m", "pip", "install", "--quiet", wheel, cwd=venv.parent)
    return venv


def sources(*patterns):
    """Files of the checkout, the package's folders for example."""
    found = {
        str(path.relative_to(ROOT))
        for pattern in patterns
        for path in ROOT.glob(pattern)
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert found
    return found


def test_the_wheel_holds_the_package_and_one_plugin(wheel):
    """Nothing else of ours under twisted/, or uninstalling would take it from Twisted."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {name for name in names if name.startswith("twisted/")} == {PLUGIN}
    assert names == sources("node2dm_tw/**/*") | {PLUGIN}


def test_the_sdist_holds_what_a_packager_needs(sdist):
    """Sources, tests, documentation and examples; no caches."""
    wanted = sources(
        "node2dm_tw/**/*",
        "examples/**/*",
        "tests/**/*.py",
        "etc/*.ini",
        "docs/*.md",
        "*.md",
        "Makefile",
        "LICENSE",
    )
    assert wanted <= sdist
    assert not [name for name in sdist if re.search(r"dropin\.cache|\.pyc$|__pycache__", name)]


def run_and_push(gateway):
    """Start it from a folder that has nothing to do with the checkout; a push reaches the phone."""
    listed = gateway.run_twistd("--help")
    assert re.search(r"^ +node2dm +Push gateway", listed.stdout, re.MULTILINE)
    assert re.search(r"^ +c2dm-emulator +Google", listed.stdout, re.MULTILINE)
    assert listed.stderr == ""
    gateway.start()
    gateway.push(b"demo-phone:greeting:hello")
    gateway.wait_for(messages_sent=1)
    assert "phone demo-phone received collapse_key=greeting" in gateway.log
    gateway.stop()
    assert "Traceback" not in gateway.log


def test_the_wheel_in_an_empty_environment(make_gateway, installed):
    """`twistd` lists both plugins, and runs them from any folder."""
    gateway = make_gateway(twistd=installed / "bin/twistd", environment=environment())
    run_and_push(gateway)
    where = call(
        installed / "bin/python", "-c", "import node2dm_tw; print(node2dm_tw.__file__)", cwd="/"
    )
    assert where.startswith(str(installed))
    call(installed / "bin/python", "-m", "pip", "check", cwd="/")


def test_what_is_installed_is_what_was_tested(installed):
    """The versions are those of constraints.txt."""
    if os.environ.get("PIP_CONSTRAINT") == "":
        pytest.skip("the newest versions were asked for")
    freeze = ("-m", "pip", "freeze", "--exclude", "node2dm_tw")
    lines = call(installed / "bin/python", *freeze, cwd="/").splitlines()
    tested = (ROOT / "constraints.txt").read_text(encoding="ascii").splitlines()
    assert "Twisted" in {line.partition("==")[0] for line in lines}
    assert set(lines) <= set(tested)


@pytest.mark.parametrize("command", ["node2dm-push", "node2dm-phone"])
def test_the_commands_in_an_empty_environment(installed, command):
    """Each starts and says how it is used."""
    assert call(installed / "bin" / command, "--help", cwd="/").startswith(f"usage: {command}")


def test_the_emulator_alone_in_an_empty_environment(make_gateway, installed):
    """`twistd c2dm-emulator` runs too."""
    gateway = make_gateway(twistd=installed / "bin/twistd", environment=environment())
    done = gateway.run_twistd("c2dm-emulator", "--help")
    assert "Emulates C2DM" in done.stdout
    gateway.write_config()
    log, pid = gateway.folder / "log", gateway.folder / "pid"
    gateway.run_twistd(*gateway.DAEMON, "c2dm-emulator", "-c", str(gateway.file))
    try:
        wait_until(lambda: "emulator listens at" in log.read_text(encoding="utf-8"), "it runs")
    finally:
        os.kill(int(pid.read_text(encoding="utf-8")), signal.SIGTERM)
        wait_until(lambda: not pid.exists(), "it ended")


WITHOUT_PYTEST = """
import importlib.util, pathlib, sys
from node2dm_tw.emulator.testing import start

assert importlib.util.find_spec("pytest") is None
with start(pathlib.Path(sys.argv[1])) as emulator, emulator.register(emulator.project) as phone:
    phone.unregister()
    print(phone.receive()["event"])
"""


def test_the_emulator_of_an_applications_tests_needs_no_pytest(tmp_path, installed):
    """`start` serves a test that unittest runs, or nothing but Python."""
    printed = call(installed / "bin/python", "-c", WITHOUT_PYTEST, tmp_path / "state", cwd="/")
    assert printed == "unregistered\n"


EVERY_MODULE = """
import importlib, pkgutil, node2dm_tw

for module in pkgutil.walk_packages(node2dm_tw.__path__, "node2dm_tw."):
    try:
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        print(error.name)
"""


def test_every_module_imports_in_an_empty_environment(installed):
    """Or what it lacks is of an extra, never of the tests."""
    lacking = call(installed / "bin/python", "-c", EVERY_MODULE, cwd="/").split()
    assert set(lacking) <= {"pycurl", "jwt", "prometheus_client"}


def test_uninstalling_leaves_twisted_whole(tmp_path, installed):
    """None of its files is missing, and twistd runs without us."""
    venv = tmp_path / "venv"
    shutil.copytree(installed, venv, symlinks=True)
    python = venv / "bin/python"
    call(python, "-m", "pip", "uninstall", "--yes", "--quiet", "node2dm_tw", cwd=tmp_path)
    program = (
        "import importlib.metadata as m\n"
        "files = [f for f in m.files('Twisted') if f.suffix != '.pyc']\n"
        "print(len(files), [str(f) for f in files if not f.locate().exists()])"
    )
    count, _, missing = call(python, "-c", program, cwd=tmp_path).strip().partition(" ")
    assert int(count) > 500
    assert missing == "[]"
    listed = call(python, venv / "bin/twistd", "--help", cwd=tmp_path)
    assert "node2dm" not in listed
    assert "web " in listed
    assert not list((venv / "lib").glob("*/site-packages/node2dm*"))


@contextmanager
def make_run(checkout):
    """`make run` in a process group of its own; gives its output so far, and ends it."""
    output = checkout / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            ["make", "run"],
            cwd=checkout,
            env=environment(),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield lambda: output.read_text(encoding="utf-8")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def test_make_run_in_a_fresh_clone(tmp_path):
    """It installs, says what to type, and runs from the checkout; a second call does so at once.

    What it says is typed: both pushes arrive.
    """
    tool("nc")
    checkout = copy_of_checkout(tmp_path)
    phones = "[c2dm]\n[fcm]\n[emulator]\nphones = demo-phone, demo-fcm-phone\n"
    gateway = GatewayProcess(tmp_path, phones)
    gateway.write_config()
    quickstart = gateway.file.read_text(encoding="utf-8").replace("= state\n", "= ../run\n")
    (checkout / "etc/quickstart.ini").write_text(quickstart, encoding="utf-8")
    for seconds in (300, 15):
        began = time.monotonic()
        with make_run(checkout) as output:
            wait_until(lambda: "started: pushes on" in output(), "it runs", seconds)
            assert time.monotonic() - began < seconds
            shown = re.findall("printf .*", output())
            assert len(shown) == 2
            for command in shown:
                call("sh", "-c", command.replace("8120", str(gateway.udp)), cwd=tmp_path)
            gateway.wait_for(messages_received=2, messages_in_queue=0, messages_sent=2)
            assert "phone demo-phone received collapse_key=greeting" in output()
            title = 'notification={"title": "Hello", "body": "World"}'
            assert f"phone demo-fcm-phone received collapse_key= data={{}} {title}" in output()
            assert not re.search(r"\b401\b", output())
    installed = call(
        checkout / ".venv/bin/python",
        "-c",
        "import node2dm_tw; print(node2dm_tw.__file__)",
        cwd="/",
    )
    assert installed.strip() == str(checkout / "node2dm_tw/__init__.py")
    other = GatewayProcess(
        tmp_path / "other", twistd=checkout / ".venv/bin/twistd", environment=environment()
    )
    other.folder.mkdir()
    run_and_push(other)
    made = {path.name for path in checkout.iterdir()} - {path.name for path in ROOT.iterdir()}
    assert made <= {".venv", "run", "node2dm_tw.egg-info", "output"}
