"""docs/stats.md names the stats of a real gateway."""

import re
from pathlib import Path

from node2dm_tw.core.push import REASONS
from tests.support.gateway import telnet
from tests.support.upstream import Answer, Sent, upstream

PAGE = (Path(__file__).parents[2] / "docs/stats.md").read_text(encoding="utf-8")
TOTALS_ONLY, ROUTES_ONLY = "totals only", "routes only"


def rows(header: str) -> list[list[str]]:
    """The rows of the table below this header."""
    table = PAGE.partition(header)[2].partition("\n\n")[0].strip().split("\n")[1:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table]


def answer(sent: Sent) -> Answer:
    refused = sent.form["registration_id"] == "big"
    return Answer(b"Error=MessageTooBig" if refused else b"id=1")


def test_every_line_of_the_stats_is_in_the_reference_and_no_other(make_gateway):
    """Each name, its order at the top, and whether routes have it too, are as the page says."""
    with upstream(answer) as google:
        gateway = make_gateway(google.section() + "[fcm]\n[emulator]\n").start()
        gateway.push(b"phone:key:payload", b"big:key:payload", b"no push")
        gateway.wait_for(messages_sent=1, messages_refused=1, messages_invalid=1)
        names = [line.partition(":")[0] for line in telnet(gateway.stats_port).splitlines()]
    names = [re.sub(r"(messages_\w+)\.\w+", r"\1.REASON", name) for name in names]
    totals = [name for name in names if not name.startswith(("c2dm.", "fcm."))]
    route = {re.sub(r"^(c2dm|fcm)\.", "", name) for name in set(names) - set(totals)}

    documented = {
        name.strip("`"): meaning for name, _, meaning in rows("| line | unit | meaning |")
    }
    assert set(totals) == {name for name, text in documented.items() if ROUTES_ONLY not in text}
    unseen = {"state_reason", "state_advice", "renewal_error"} - route
    assert route | unseen == {name for name, text in documented.items() if TOTALS_ONLY not in text}
    assert list(documented)[:13] == totals[:13]


def test_the_reasons_are_those_of_the_code():
    """Each word that an invalid push can be counted under is explained, in the code's own words."""
    package = Path(__file__).parents[2] / "node2dm_tw"
    files = [
        *package.glob("core/*.py"),
        *package.glob("intake/*.py"),
        *package.glob("providers/*.py"),
    ]
    raised = re.compile(r"InvalidPush\(\"(\w+)\"")
    code = {reason for file in files for reason in raised.findall(file.read_text(encoding="utf-8"))}
    explained = {
        row[0].strip("`"): row[1] for row in rows("| reason | what is wrong with the line |")
    }
    assert code == explained.keys()
    assert explained == REASONS
