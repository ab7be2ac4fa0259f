"""nginx in front of an emulator: HTTP/2 towards the gateway, HTTP/1.1 behind."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from tests.support.nginx import run_nginx

HTTP = """
    log_format requests '$server_protocol $status $request_uri';
    access_log access.log requests;
    upstream emulator {{ server {address}; keepalive 8; }}
    server {{
        listen 127.0.0.1:{port} ssl http2;
        ssl_certificate {identity};
        ssl_certificate_key {identity};
        location / {{
            proxy_pass https://emulator;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_ssl_verify on;
            proxy_ssl_name localhost;
            proxy_ssl_trusted_certificate {ca_file};
        }}
    }}
"""


@attrs.frozen
class Front:
    """A running nginx."""

    url: str
    folder: Path

    def protocols(self) -> set[str]:
        """What requests came by."""
        lines = (self.folder / "access.log").read_text().splitlines()
        return {line.split()[0] for line in lines}


@contextmanager
def in_front_of(base_url: str, ca_file: Path, folder: Path) -> Iterator[Front]:
    """Run nginx until the context ends; its certificate is the emulator's own."""

    def http(port: int) -> str:
        return HTTP.format(
            port=port,
            address=base_url.removeprefix("https://"),
            ca_file=ca_file,
            identity=ca_file.with_name("server.pem"),
        )

    with run_nginx(folder, http) as (port,):
        yield Front(f"https://127.0.0.1:{port}", folder)
