"""A gateway in whose stop the step of the number FAILING_STEP raises; it writes down all steps."""

import os
from pathlib import Path

from twisted.application.service import Application

from node2dm_tw.app.options import Options
from node2dm_tw.app.service import GatewayService
from node2dm_tw.app.tap import make_runtime


class FailingGateway(GatewayService):
    def shutdown_steps(self):
        steps = super().shutdown_steps()
        Path("steps").write_text("\n".join(name for name, _ in steps), encoding="utf-8")
        number = int(os.environ["FAILING_STEP"])
        steps[number] = (steps[number][0], self.fail)
        return steps

    def fail(self):
        raise RuntimeError("injected")


options = Options()
options.parseOptions(["-c", "config.ini"])
application = Application("node2dm")
FailingGateway(options, make_runtime()).setServiceParent(application)
