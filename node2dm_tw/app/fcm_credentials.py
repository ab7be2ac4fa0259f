"""How an FCM route signs in, with an account of any kind."""

from collections.abc import Callable
from functools import partial

import attrs

from node2dm_tw.app.blocking import BlockingWork
from node2dm_tw.http.interface import Headers, HTTPClient, Response, post
from node2dm_tw.providers.google_auth import (
    Account,
    AccountCredentials,
    GoogleAuthCredentials,
)
from node2dm_tw.providers.interface import Credentials, Post
from node2dm_tw.providers.oauth2 import ServiceAccountCredentials, ServiceAccountKey

SIGN_IN_REQUESTS = 4
"""Requests that one sign-in may take: two to a metadata server, an exchange, an impersonation."""


@attrs.frozen(eq=False)
class SignInClients:
    """What sign-ins of a route are sent with.

    Args:
        post: sends a POST to Google, through the proxy if there is one.
        direct: a treq client without a proxy.
        timeout: seconds that one request may take.
    """

    post: Post
    direct: HTTPClient
    timeout: float


def make_credentials(
    account: Account, clients: SignInClients, work: BlockingWork, wall: Callable[[], float]
) -> AccountCredentials:
    """Make the credentials of a route, whose account can change."""

    def ask(method: str, url: str, headers: Headers, body: bytes) -> Response:
        """Send a request of google-auth.

        Those to Google go like the sign-ins of all other routes. Those to a metadata server must
        not go through a proxy: each machine has its own.
        """
        send = partial(post, clients.direct, method=method)
        if method == "POST" and url.startswith("https:"):
            send = partial(clients.post)
        response: Response = work.wait_for(partial(send, url, headers, body))
        return response

    def make(account: Account) -> Credentials:
        if isinstance(account, ServiceAccountKey):
            return ServiceAccountCredentials(clients.post, wall, account)
        run = partial(work.run, SIGN_IN_REQUESTS * clients.timeout)
        return GoogleAuthCredentials(run, ask, wall, account)

    return AccountCredentials(make, account)
