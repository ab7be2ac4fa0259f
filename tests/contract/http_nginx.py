"""nginx as an upstream: its own folder, a free port, TLS, HTTP/2 and HTTP/1.1."""

from contextlib import contextmanager

from twisted.internet import reactor
from twisted.internet.task import deferLater

from tests.contract.http_certificates import authority, good
from tests.support.nginx import run_nginx

HTTP = """
    log_format requests '$connection $server_protocol $request_method $request_uri';
    access_log access.log requests;
    keepalive_requests {keepalive_requests};
    server {{
        listen 127.0.0.1:{port} ssl{http2};
        server_name localhost;
        ssl_certificate {folder}/server.pem;
        ssl_certificate_key {folder}/server.pem;
        location / {{
            add_header Retry-After 3;
            return 200 "id=0:1234";
        }}
    }}
"""


class Nginx:
    """A running nginx."""

    def __init__(self, folder, port, ca_file):
        self.folder = folder
        self.ca_file = ca_file
        self.url = f"https://localhost:{port}/send"

    async def requests(self, expected):
        """The requests it has logged, as (connection, protocol, method, path).

        It logs after it has answered, so this waits until `expected` are there.
        """
        while True:
            lines = (self.folder / "access.log").read_text().splitlines()
            if len(lines) >= expected:
                return [tuple(line.split()) for line in lines]
            await deferLater(reactor, 0.01)


@contextmanager
def nginx(folder, *, http2, keepalive_requests=100_000, identity=None):
    """Run nginx in `folder` until the context ends."""
    identity = identity or good()
    ca_file = folder / "ca.pem"
    ca_file.write_bytes(authority().certificate_pem)
    (folder / "server.pem").write_bytes(identity.certificate_pem + identity.key_pem)

    def http(port):
        protocol = " http2" if http2 else ""
        limit = keepalive_requests
        return HTTP.format(folder=folder, port=port, http2=protocol, keepalive_requests=limit)

    with run_nginx(folder, http) as (port,):
        yield Nginx(folder, port, ca_file)
