"""How a gateway that is measured is configured."""

from pathlib import Path

from benchmarks.contenders import SETUPS
from benchmarks.gateway import Gateway
from benchmarks.upstream import Upstream
from node2dm_tw import config
from node2dm_tw.emulator.certificates import prepare
from node2dm_tw.emulator.settings import EmulatorSettings
from node2dm_tw.providers.oauth2 import read_key


def test_every_contender_is_told_what_the_gateway_understands(tmp_path: Path) -> None:
    """One route each, to the service of its setup; FCM's key leads to the same upstream."""
    upstream = Upstream(tmp_path, None)
    upstream.http1 = upstream.http2 = 10_002
    upstream.places = prepare(EmulatorSettings(tmp_path), 10_001)
    for number, setup in enumerate(SETUPS.values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        file = Path(Gateway(folder, upstream=upstream, setup=setup).prepare()[-1])
        settings = config.load(file, folder, lambda *_: {}, lambda key: read_key(key).project)
        assert [route.kind for route in settings.routes] == [setup.service]
        assert settings.warnings == ()
    assert read_key(upstream.places.service_account.read_bytes()).token_uri.endswith(":10001/token")
