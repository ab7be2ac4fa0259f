"""The line of docs/from-node2dm.md that moves from GCM to FCM is a push."""

from node2dm_tw.providers.fcm import FCM
from tests.docs.pages import PAGES

(PAGE,) = (page for page in PAGES if page.name == "docs/from-node2dm.md")


def test_the_line_is_a_push():
    """FCM's rules take it."""
    (line,) = (block.text.strip() for block in PAGE.blocks if block.language == "text")
    service = FCM("https://fcm.example", lambda: 0.0)
    push = service.split(line.removeprefix("g|").encode(), 0.0)
    service.validate(push)
    assert (push.device, push.collapse_key) == (b"TOKEN", b"COLLAPSE_KEY")
