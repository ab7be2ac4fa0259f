"""Chrome to Phone, the phone's side: links sent to the phone open there."""

import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from examples.emulated_phone import Emulator, RegistrationFailed, phone_options, say

APP = "com.google.android.apps.chrometophone"


def open_link(data: Mapping[str, str], opener: Sequence[str]) -> None:
    """Open the link of a push by a command, or print it where there is none.

    Only web addresses are opened: what comes in a push must not start anything else.
    """
    url = data.get("url", "")
    if urlsplit(url).scheme not in ("http", "https"):
        say(f"ignored: {url!r} is no web address")
    elif opener:
        subprocess.run([*opener, url], check=False)  # noqa: S603 - the user's own command
    else:
        say(f"open {url} {data.get('title', '')}".rstrip())


def main() -> int:
    """Register, say the ID, and open links until the application is unregistered."""
    parser = phone_options(__doc__)
    opener = "a command that gets the link as its last argument; without one it is printed"
    parser.add_argument("--opener", type=shlex.split, default=[], metavar="COMMAND", help=opener)
    options = parser.parse_args()
    emulator = Emulator(options.emulator, options.ca_file)
    try:
        registration_id = emulator.register(options.sender, APP, options.device)
    except RegistrationFailed as error:
        say(f"cannot register: {error}")
        return 1
    say(f"registered {registration_id}")
    for name, fields in emulator.events(registration_id):
        if name == "message":
            open_link(fields["data"], options.opener)
        elif name == "registration":
            say(f"registered {fields['registration_id']}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
