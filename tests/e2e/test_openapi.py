"""The gateway answers as /openapi.json says: schemathesis asks a real one."""

import json
import os
import re
import subprocess
import sys
import unicodedata
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.ports import free_port
from tests.support.tools import module

TOKEN = "a-token-for-schemathesis"


SETTINGS = """
[checks]
negative_data_rejection.expected-statuses = [400, 401, 404, 405, 413, 415]
"""
EXCLUDED = (
    "ensure_resource_availability",  # an accepted push is known by its id once it has ended
    "missing_required_header",  # --header adds what it leaves out; `ignored_auth` tests the same
)


def spell_out(document: str) -> str:
    r"""Replace Unicode's categories in patterns, such as ``\p{Cc}``, by their characters."""

    def spell(match: re.Match[str]) -> str:
        letters = (n for n in range(sys.maxunicode) if unicodedata.category(chr(n)) == match[1])
        return "".join(f"\\\\u{n:04x}" if n < 0x10000 else chr(n) for n in letters)

    return re.sub(r"\\\\p\{(\w\w)\}", spell, document)


def narrow(document: dict[str, Any]) -> dict[str, Any]:
    """Add to the description what depends on the gateway: its one route, `shop`, is of FCM.

    Of texts that match the pattern of a condition, schemathesis makes such as are none.
    """
    fields = document["components"]["schemas"]["Push"]["properties"]
    fields["route"] = {"enum": ["shop", None]}
    fields["condition"] = {"enum": [*fields["condition"]["examples"], None]}
    fields["data"]["oneOf"][1]["propertyNames"]["not"] = {"pattern": "^(from$|message_|goo|gcm)"}
    # The first is C2DM's; the fields of the others must agree with those beside them.
    for name in ("delay_while_idle", "android", "android_v2"):
        del fields[name]
    return document


def test_the_gateway_answers_as_it_is_described(make_gateway, tmp_path: Path):
    """Generated requests, valid and invalid: each answer is one of those that are described."""
    module("schemathesis")
    web = free_port()
    options = f"web = tcp:{web}:interface=127.0.0.1\npush_token = {TOKEN}\nqueue = sqlite"
    make_gateway("[fcm:shop]\n[emulator]\n", node2dm=options).start()
    url = f"http://127.0.0.1:{web}"
    with urllib.request.urlopen(f"{url}/openapi.json", timeout=60) as answer:
        document = json.loads(spell_out(answer.read().decode()))
    (tmp_path / "openapi.json").write_text(json.dumps(narrow(document)))
    (tmp_path / "schemathesis.toml").write_text(SETTINGS)
    command = [Path(sys.executable).with_name("schemathesis"), "run", "openapi.json", "--url", url]
    command += ["--header", f"Authorization: Bearer {TOKEN}", "--max-examples", "15", "--seed", "1"]
    command += ["--checks", "all", "--exclude-checks", ",".join(EXCLUDED)]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.e2e.schemathesis_hooks"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    lines = (done.stdout + done.stderr).splitlines()
    assert done.returncode == 0, "\n".join(line[:1_000] for line in lines)
