"""A route as it is wired."""

import json

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from node2dm_tw.core.snapshot import LaneState
from node2dm_tw.core.stats import RouteStats
from node2dm_tw.queues.memory import MemoryQueue
from node2dm_tw.state.spool import Spool
from tests.support.doubles import WALL, MemoryHTTP
from tests.support.routes import build_route, load_settings
from tests.unit.providers.keys import CONTENT

CONFIGURATION = """
[node2dm]
[c2dm]
username = sender@example.com
password = secret
"""


class SlowQueue(MemoryQueue):
    """A queue that has started once its Deferred fires."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.started = Deferred()

    def start(self):
        return self.started


def test_a_route_sends_once_its_queue_has_started(tmp_path):
    """Until then it does not even sign in."""
    clock = Clock()
    settings = load_settings(tmp_path, CONFIGURATION)
    queue = SlowQueue(10, RouteStats(), Spool(tmp_path / "x.spool"), clock, lambda: WALL)
    way = attrs.evolve(build_route(settings, clock, lambda: WALL, MemoryHTTP), queue=queue)
    assert not way.start().called
    assert way.lane.session.state is LaneState.SIGNED_OUT
    queue.started.callback(None)
    assert way.lane.session.state is LaneState.SIGNING_IN


def test_pushes_go_to_the_cloud_that_the_key_belongs_to(tmp_path):
    """Its universe_domain takes the place of Google's own domain; the token's address is kept."""
    key = {**CONTENT, "universe_domain": "cloud.example"}
    (tmp_path / "key.json").write_text(json.dumps(key), encoding="utf-8")
    text = "[node2dm]\n[fcm]\nproject = shop\nservice_account = key.json\n"
    http = []

    def make_client(on_outcomes):
        http.append(MemoryHTTP(on_outcomes))
        return http[-1]

    route = build_route(load_settings(tmp_path, text), Clock(), lambda: WALL, make_client)
    assert route.lane.provider.url == "https://fcm.cloud.example/v1/projects/shop/messages:send"
    route.start()
    [posted] = [each for client in http for each in client.posted]
    assert posted.url == CONTENT["token_uri"]
