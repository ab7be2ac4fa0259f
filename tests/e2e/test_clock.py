"""The wall clock steps while pushes wait: seen from outside a real gateway."""

import os
import time
from datetime import datetime
from pathlib import Path

from tests.support.gateway import GatewayProcess
from tests.support.tools import tool
from tests.support.upstream import Answer, upstream


def test_a_step_of_the_wall_clock_expires_nothing(tmp_path):
    """Pushes that wait for the end of a pause are not a second older for a step of two hours."""
    tool("faketime")
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    offset = tmp_path / "offset"
    offset.write_text("+0")
    environment = os.environ | {
        "LD_PRELOAD": str(library),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
    }
    refusals = iter([Answer(b"", 503, ("Retry-After: 3",))])
    with upstream(lambda sent: next(refusals, Answer())) as google:
        gateway = GatewayProcess(
            tmp_path, google.section(), node2dm="max_age = 3600", environment=environment
        )
        gateway.start()
        try:
            gateway.push(*(b"phone%d:key:%d" % (n, n) for n in range(25)))
            gateway.wait_for(messages_received=25, backing_off="true")
            offset.write_text("+7200")
            assert gateway.wait_for(messages_sent=25)["messages_expired"] == 0
        finally:
            gateway.stop()
        logged = gateway.log.splitlines()[-1].split()[0]
    ahead = datetime.strptime(logged, "%Y-%m-%dT%H:%M:%S%z").timestamp() - time.time()
    assert ahead > 3600, "the gateway did not see the step"
