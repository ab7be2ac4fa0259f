"""The demo of the quickstart, for the commands that pages show."""

import os
import re
import subprocess
import sys
from pathlib import Path

import attrs

from tests.docs.pages import ROOT
from tests.support.gateway import GatewayProcess
from tests.support.ports import free_port


@attrs.define
class Demo:
    """A folder like a checkout, with the gateway of etc/quickstart.ini at other ports.

    Args:
        gateway: not started yet.
        options: more lines for its section [node2dm], perhaps followed by other sections.
    """

    gateway: GatewayProcess
    options: str = ""
    web: int = attrs.field(factory=free_port)

    def start(self) -> None:
        """Start the gateway, unless it runs."""
        if self.gateway.process is not None:
            return
        demo = (ROOT / "etc/quickstart.ini").read_text(encoding="utf-8")
        demo = re.sub(r"^(#.*|state_dir.*|\[node2dm\])\n", "", demo, flags=re.MULTILINE)
        before, _, rest = demo.partition("[")
        self.gateway.node2dm = before.replace("8122", str(self.web)) + self.options
        self.gateway.config = f"[{rest}"
        self.gateway.state_dir = "run"
        folder = self.gateway.folder
        for name in ("etc", "examples", "node2dm_tw"):
            (folder / name).symlink_to(ROOT / name)
        push = folder / "bin/node2dm-push"
        push.parent.mkdir()
        real = Path(sys.executable).with_name("node2dm-push")
        ports = f"--port {self.gateway.udp} --stats 127.0.0.1:{self.gateway.stats_port}"
        push.write_text(f'#!/bin/sh\nexec {real} {ports} "$@"\n', "ascii")
        push.chmod(0o755)
        self.gateway.start()

    def run(self, command: list[str], text: str) -> None:
        """Run `command` with `text` as its last argument; raise ValueError if it fails."""
        self.start()
        done = subprocess.run(
            [*command, self.translate(text)],
            cwd=self.gateway.folder,
            env={
                **os.environ,
                "PATH": f"bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise ValueError(f"exit status {done.returncode}: {done.stderr[-2000:]}{done.stdout}")

    def translate(self, text: str) -> str:
        """Put the ports of this demo in the place of those that pages name."""
        ports = {
            "8120": self.gateway.udp,
            "8121": self.gateway.stats_port,
            "8122": self.web,
            "8443": self.gateway.emulator_port,
        }
        text = re.sub(rf"\b({'|'.join(ports)})\b", lambda found: str(ports[found[0]]), text)
        return text.replace(".venv/bin/", "")
