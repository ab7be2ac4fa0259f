"""The pushes that are sent: datagrams of 200 bytes, each to another device."""

SIZE = 200
_DEVICE = b"APA91bH%012d" + b"x" * 102
_TEXT = b'{"alert":"Somebody likes your photo","stamp":"stamp_%019d"}'


def datagram(number: int, moment: int = 0) -> bytes:
    """Make the push of this number.

    Args:
        number: names the device.
        moment: nanoseconds since the epoch, to be found again at the upstream.
    """
    return b"%b:like:%b" % (_DEVICE % number, _TEXT % moment)
