"""The processor's own counter of user-space instructions (perf_event_open), where there is one."""

import ctypes
import os
import platform
import struct

_SYSCALLS = {"x86_64": 298, "aarch64": 241}
_HARDWARE, _INSTRUCTIONS = 0, 1
_SIZE = 112
_DISABLED, _INHERIT, _EXCLUDE_KERNEL, _EXCLUDE_HV, _ENABLE_ON_EXEC = 1, 2, 32, 64, 4096
_ATTRIBUTES = struct.Struct("=IIQQQQQ")
_libc = ctypes.CDLL(None, use_errno=True)


class Counter:
    """Counts the instructions of a process and of the children and threads it will have.

    Args:
        pid: of the process; 0 is this one.
        on_exec: begin to count when it calls exec, not now.
        event: type and configuration, of linux/perf_event.h.

    Raises:
        OSError: it cannot be counted here.
    """

    def __init__(
        self,
        pid: int,
        *,
        on_exec: bool = False,
        event: tuple[int, int] = (_HARDWARE, _INSTRUCTIONS),
    ) -> None:
        flags = _INHERIT | _EXCLUDE_KERNEL | _EXCLUDE_HV
        if on_exec:
            flags |= _DISABLED | _ENABLE_ON_EXEC
        packed = _ATTRIBUTES.pack(event[0], _SIZE, event[1], 0, 0, 0, flags).ljust(_SIZE, b"\0")
        number = _SYSCALLS.get(platform.machine())
        if number is None:
            raise OSError(f"not known how to ask on {platform.machine()}")
        self._descriptor: int = _libc.syscall(number, packed, pid, -1, -1, 0)
        if self._descriptor < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def read(self) -> int:
        """Give the count so far."""
        return int.from_bytes(os.read(self._descriptor, 8), "little")

    def close(self) -> None:
        """Count no more."""
        os.close(self._descriptor)


def is_supported() -> bool:
    """Tell whether this machine counts instructions for us."""
    try:
        counter = Counter(0)
    except OSError:
        return False
    counter.close()
    return True
