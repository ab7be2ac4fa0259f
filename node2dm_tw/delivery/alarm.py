"""Notices when a route blames devices far too often: that is how healthy ones get deleted."""

from collections import deque

import attrs

SAMPLE_SIZE = 500
"""Answers looked back on."""

SENDER_ID_MISMATCH = "SENDER_ID_MISMATCH"
"""FCM's word for a device of another project: ours may be the wrong one."""

MIN_SAMPLES = 20
"""Answers before which nothing is concluded."""


@attrs.define(eq=False)
class BadDeviceAlarm:
    """Whether callbacks must be held back.

    Args:
        percent: of the last `SAMPLE_SIZE` answers that may blame devices; 0: any number.
    """

    percent: int
    _blames: deque[bool] = attrs.field(factory=lambda: deque(maxlen=SAMPLE_SIZE), init=False)
    _blamed: int = attrs.field(default=0, init=False)
    _was_on: bool = attrs.field(default=False, init=False)

    def reconfigure(self, percent: int) -> None:
        """Put the alarm on above another share from now on."""
        self.percent = percent

    def record(self, blames_device: bool) -> bool:
        """Take in one answer; return whether it put the alarm on or off."""
        if len(self._blames) == SAMPLE_SIZE:
            self._blamed -= self._blames[0]
        self._blames.append(blames_device)
        self._blamed += blames_device
        if not self._blamed and not self._was_on:
            return False  # nearly always: no need to ask `is_on`
        was_on, self._was_on = self._was_on, self.is_on
        return was_on != self._was_on

    @property
    def is_on(self) -> bool:
        """Whether the share of answers that blame devices is too high to be believed."""
        count = len(self._blames)
        return (
            self.percent > 0 and count >= MIN_SAMPLES and self._blamed * 100 > self.percent * count
        )

    def should_hold(self, reason: str, *, has_delivered: bool) -> bool:
        """Whether a report must wait.

        While the alarm is on every report must; one of a foreign device must as long as the route
        has delivered nothing, since then it is more likely that the project is the wrong one.
        """
        return self.is_on or (
            self.percent > 0 and reason == SENDER_ID_MISMATCH and not has_delivered
        )
