"""`twistd node2dm` and `twistd c2dm-emulator`."""

from twisted.application.service import ServiceMaker

node2dm = ServiceMaker(
    "node2dm", "node2dm_tw.app.tap", "Push gateway: UDP to Android push services.", "node2dm"
)
emulator = ServiceMaker(
    "c2dm-emulator",
    "node2dm_tw.emulator.server.tap",
    "Google's side of C2DM on this machine, with phones.",
    "c2dm-emulator",
)
