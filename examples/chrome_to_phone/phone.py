"""Chrome to Phone, the phone's side: links sent to the phone open there."""

import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from examples.emulated_phone import phone_options, register, say

APP = "com.google.android.apps.chrometophone"


def open_link(data: Mapping[str, str], opener: Sequence[str]) -> None:
    """Open the link of a push by a command, or print it where there is none.

    Only web addresses are opened: what comes in a push must not start anything else.
    """
    url = data.get("url", "")
    if not url.isprintable() or urlsplit(url).scheme not in ("http", "https"):
        say(f"ignored: {url!r} is no web address")
    elif opener:
        subprocess.run([*opener, url], check=False)  # noqa: S603 - the user's own command
    else:
        say(f"open {url} {data.get('title', '')}".rstrip())


def main() -> None:
    """Register, say the ID, and open links until the application is unregistered."""
    parser = phone_options("Chrome to Phone, the phone's side")
    opener = "a command that gets the link as its last argument; without one it is printed"
    parser.add_argument("--opener", type=shlex.split, default=[], metavar="COMMAND", help=opener)
    options = parser.parse_args()
    phone = register(options, APP)
    say(f"registered {phone.registration_id}")
    for name, fields in phone.events():
        if name == "message":
            open_link(fields["data"], options.opener)
        elif name == "registration":
            say(f"registered {phone.registration_id}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
