"""The HTTP clients of the gateway, which are closed together at its stop."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from node2dm_tw.app.process import open_or_fail
from node2dm_tw.app.runtime import IGatewayReactor
from node2dm_tw.http.interface import HTTPClient, OnOutcomes, finish_posts
from node2dm_tw.http.treq_client import TreqClient


@attrs.define(eq=False)
class HTTPClients:
    """Makes HTTP clients.

    Args:
        reactor: moves their bytes.
        proxy: of the clients that use libcurl; None: there is none.

    Attributes:
        made: all of them.
    """

    reactor: IGatewayReactor
    proxy: str | None
    made: list[HTTPClient] = attrs.field(factory=list, init=False)

    def make(
        self,
        timeout: float,
        connections: int,
        ca_file: Path | None,
        *,
        curl: bool,
        on_outcomes: OnOutcomes = finish_posts,
    ) -> HTTPClient:
        """Make one. Raises `StartFailed`."""
        options: dict[str, Any] = {
            "timeout": timeout,
            "connections": connections,
            "ca_file": ca_file,
            "on_outcomes": on_outcomes,
        }
        make: Callable[..., HTTPClient] = TreqClient
        if curl:
            # Imported here, since the extra may not be installed.
            from node2dm_tw.http.curl_client import CurlClient

            make, options["proxy"] = CurlClient, self.proxy
        client = open_or_fail("ca_file", partial(make, self.reactor, **options))
        self.made.append(client)
        return client
