"""The arguments of node2dm-push."""

import argparse
import contextlib
import sys
from pathlib import Path
from typing import Any, NoReturn

from node2dm_tw.cli.gateway import STATS
from node2dm_tw.cli.rows import check_subscription, decode
from node2dm_tw.client import (
    HOST,
    MAX_DATAGRAM,
    MAX_TTL_SECONDS,
    OBJECTS,
    PORT,
    SAFE_DATAGRAM,
    Push,
)

MAX_SECRET_CHARACTERS = 65_536

DESCRIPTION = """\
Send pushes through a node2dm_tw gateway, by UDP or HTTP: one from the arguments, or
many from a file or a pipe. Rows are CSV or JSON lines; a first line that begins with {
says JSON lines.

CSV has a header row: the columns token, collapse_key, data, or any other name of
the JSON form. An empty cell is a field that is not there, but for data.
JSON lines hold an object each: token (or fid, topic, condition), collapse_key,
data (a text, or an object of texts), ttl, priority, delay_while_idle,
notification, android, android_v2, apns, webpush, fcm_options (objects, in CSV as
JSON), validate_only, urgent, route, id, or subscribe or unsubscribe (a topic) in
place of a message; null is a field that is not there.
What an option gives holds for the rows that do not say.

By UDP: if a gateway on this host answers at --stats, each push is checked against
its routes before it is sent; otherwise only what holds for every gateway is checked.
By HTTP (--http) the gateway checks each push, keeps it, and answers with its id,
which is printed on standard output. Nothing is printed for a row that is not accepted.
"""

EPILOG = """\
examples:
  node2dm-push REGISTRATION_ID 'Hello' --collapse-key greeting
  node2dm-push REGISTRATION_ID 'Hello' --collapse-key greeting --confirm 127.0.0.1:8121
  node2dm-push --topic news --notification 'Title:Body' --route fcm
  node2dm-push --from devices.csv --rate 500
  node2dm-push --subscribe news --from devices.csv --route fcm
  node2dm-push --from devices.csv --http http://127.0.0.1:8122 --token-file push-token
  node2dm-push --from devices.csv --from-line 5001
  node2dm-push --from devices.csv --dry-run | head
  echo '{"topic": "news", "data": {"title": "Hi"}}' | node2dm-push --from -

exit status:
  0    every push was sent; by UDP that is no promise that it arrived. With
       --confirm: the gateway has received all of them as valid pushes. With
       --http: it has accepted all of them, and keeps them
  1    a row was faulty, a push could not be sent, or nobody listens there. With
       --confirm: pushes were invalid, or have not arrived. With --http: the
       gateway refused a request, or did not answer in a minute
  2    an argument, the file or its header row is of no use, or the gateway would
       not take the push; nothing was sent
  130  interrupted by Ctrl-C; with --from, the last lines say how many were sent
       and the --from-line to go on with
"""


def parse(argv: list[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Read the arguments; exit with status 2 if they are not valid."""
    parser = _build_parser()
    options = parser.parse_args(argv)
    if options.data is None and (options.topic or options.condition) and not options.source:
        options.token, options.data = None, options.token
    targets = (options.token, options.topic, options.condition, options.source)
    if options.source is None and sum(target is not None for target in targets) != 1:
        parser.error("give either a TOKEN, --topic, --condition, or --from FILE")
    if options.source is not None and options.token is not None:
        parser.error("give either a TOKEN, --topic, --condition, or --from FILE")
    if options.from_line > 1 and options.source is None:
        parser.error("--from-line needs --from FILE")
    if options.id is not None and options.source is not None:
        parser.error("--id names one push: give the rows of --from a column or field id")
    if options.confirm and options.dry_run:
        parser.error("--confirm needs pushes that are sent: leave out --dry-run")
    _check_transport(parser, options)
    return parser, options


def _check_transport(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Exit with status 2 if options of UDP and HTTP are mixed."""
    if options.http is None:
        if options.push_token or options.ca_file:
            parser.error("--token-file and --ca-file need --http URL")
        return
    if options.push_token is None and not options.dry_run:
        parser.error("--http needs --token-file FILE, with the gateway's push_token")
    if options.confirm or options.key:
        parser.error("--confirm and --key-file are for UDP: leave them out with --http")


def find_defaults(options: argparse.Namespace) -> dict[str, Any]:
    """Return the fields that are given by options."""
    names = Push.__dataclass_fields__.keys() - {"token", "data"}
    given = vars(options).items()
    return {name: value for name, value in given if name in names and value is not None}


def check_defaults(parser: argparse.ArgumentParser, defaults: dict[str, Any]) -> None:
    """Exit with status 2 if a field that is given by an option is not valid."""
    has_target = "topic" in defaults or "condition" in defaults
    try:
        check_subscription(Push.from_fields(defaults if has_target else {"token": "T"} | defaults))
    except ValueError as error:
        fail(parser, str(error))


def fail(parser: argparse.ArgumentParser, text: str) -> NoReturn:
    """Exit with status 2 and a message, without the usage, which would hide it."""
    parser.exit(2, f"{parser.prog}: error: {text}\n")


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="node2dm-push",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("token", metavar="TOKEN", nargs="?", help="registration ID of the device")
    add("data", metavar="DATA", nargs="?", help="the text it gets; without one: only a ping")
    add("--from", dest="source", metavar="FILE", help="rows to send; - for standard input")
    add("--from-line", type=_line, default=1, metavar="N",
        help="skip rows that begin before line N; a CSV header is read all the same")  # fmt: skip
    add("--rate", type=_rate, default=1000.0, metavar="N", help="pushes a second (%(default)g)")
    add("--strict", action="store_true", help="end at the first fault instead of going on")
    add("--dry-run", action="store_true", help="print the datagrams and send nothing")
    add("--host", default=HOST, help="the gateway's name or address (%(default)s)")
    add("--port", type=_port, default=PORT, help="its UDP port (%(default)s)")
    add("--stats", metavar="HOST:PORT",
        help=f"its stats port, asked for its routes (on this host: {STATS})")  # fmt: skip
    add("--confirm", metavar="ADDRESS",
        help="compare the gateway's counters before and after: http://HOST:PORT of its option web, "
        "or HOST:PORT of its stats port")  # fmt: skip
    add("--datagram", type=_size, default=SAFE_DATAGRAM, metavar="BYTES",
        help="largest datagram to put several pushes in (%(default)s)")  # fmt: skip
    add("--http", metavar="URL", help="send by HTTP to this address of the gateway's option web, "
        "and print the ids of the accepted pushes")  # fmt: skip
    add("--token-file", type=_secret, dest="push_token", metavar="FILE",
        help="the file with the gateway's push_token, for --http")  # fmt: skip
    add("--ca-file", metavar="FILE", help="whom to trust with https, in place of the system's CAs")
    add("--key-file", type=_secret, dest="key", metavar="FILE",
        help="sign with the key in this file, the gateway's datagram_key")  # fmt: skip
    add("--id", help="a name of your own for the push, of A-Z a-z 0-9 . _ : -")
    add("--route", metavar="NAME", help="the gateway's route, or its prefix")
    add("--topic", metavar="TOPIC", help="an FCM topic instead of a TOKEN")
    add("--condition", metavar="EXPRESSION", help="an FCM expression over topics, likewise")
    add("--subscribe", metavar="TOPIC", help="subscribe the TOKEN, or each row, to an FCM topic")
    add("--unsubscribe", metavar="TOPIC", help="end such a subscription")
    add("--notification", type=_notification, metavar="TITLE[:BODY]",
        help="what FCM shows by itself; or a JSON object: title, body, image")  # fmt: skip
    for name in OBJECTS[1:]:
        add(f"--{name.replace('_', '-')}", type=_object, metavar="JSON",
            help=f"an object, {name} of FCM's Message")  # fmt: skip
    add("--validate-only", action="store_true", default=None, help="FCM checks it, sends nothing")
    add("--collapse-key", metavar="KEY", help="of several an offline phone gets the last")
    add("--ttl", type=_seconds, metavar="SECONDS", help="how long it is worth delivering")
    add("--priority", type=str.lower, choices=("normal", "high"), help="FCM's priority")
    add("--delay-while-idle", action="store_true", default=None, help="wait until it is in use")
    add("--urgent", action="store_true", default=None, help="send it before those that are not")
    return parser


def _notification(text: str) -> dict[str, Any]:
    if text.lstrip().startswith("{"):
        return _object(text)
    title, colon, body = text.partition(":")
    return {"title": title, "body": body} if colon else {"title": title}


def _object(text: str) -> dict[str, Any]:
    try:
        found = decode(text)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"{error}: expected a JSON object") from None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"{text[:48]!r}: expected a JSON object")
    return found


def _secret(path: str) -> str:
    """Read a file with a secret, without a byte-order mark and line ends, as the gateway does."""
    try:
        with Path(path).open(encoding="utf-8-sig") as file:
            secret = file.read(MAX_SECRET_CHARACTERS).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise argparse.ArgumentTypeError(f"{path}: {why}") from None
    if not secret:
        raise argparse.ArgumentTypeError(f"{path} is empty")
    return secret


def _rate(text: str) -> float:
    with contextlib.suppress(ValueError):
        rate = float(text)
        if 0 < rate < float("inf"):
            return rate
    raise argparse.ArgumentTypeError(f"{text!r}: expected a number above 0")


def _seconds(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        expected = f"a whole number of seconds, 0 to {MAX_TTL_SECONDS}"
        raise argparse.ArgumentTypeError(f"{text!r}: expected {expected}") from None


def _port(text: str) -> int:
    return _between(text, 65535)


def _size(text: str) -> int:
    return _between(text, MAX_DATAGRAM)


def _line(text: str) -> int:
    return _between(text, sys.maxsize)


def _between(text: str, most: int) -> int:
    with contextlib.suppress(ValueError):
        if 1 <= int(text) <= most:
            return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number between 1 and {most}")
