"""Chrome to Phone, the sending side: what the button in the browser does."""

import argparse
import hashlib
import sys

from node2dm_tw.client import PushClient


def main() -> int:
    """Send the link; the exit status is 0 if it was handed over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("phone", help="the phone's registration ID")
    parser.add_argument("url")
    parser.add_argument("--title", default="")
    parser.add_argument("--host", default="127.0.0.1", help="the gateway")
    parser.add_argument("--port", type=int, default=8120)
    options = parser.parse_args()
    with PushClient(options.host, options.port) as gateway:
        taken = gateway.push(
            options.phone,
            {"url": options.url, "title": options.title},
            # Each link has its own key: a phone that was offline opens all of them, each once.
            collapse_key=hashlib.sha256(options.url.encode()).hexdigest()[:16],
        )
        arrived = gateway.check(wait=0.1)
    if not (taken and arrived):
        sys.stderr.write("the link could not be sent: is the gateway running?\n")
    return 0 if taken and arrived else 1


if __name__ == "__main__":
    sys.exit(main())
