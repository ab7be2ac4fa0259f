"""JumpNote, the application server: keeps notes, and pings the other phones of an account.

POST /ACCOUNT/devices  {"registration_id", "former"}: this phone is the account's
DELETE /ACCOUNT/devices/ID: it is no longer
POST /callback: the gateway says that a phone is gone (its section [callback])
POST /ACCOUNT/sync  {"registration_id", "since", "changes": {NOTE: text, or null to delete it}}
    -> {"revision", "notes": {NOTE: text or null}}, all that changed after the revision `since`
"""

import argparse
import hashlib
import hmac
import json
import sqlite3
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

from node2dm_tw.client import Push, PushClient

MOST_BODY = 64 * 1024
"""Bytes of a request's body."""

Answer = tuple[int, Any]


class Notes:
    """The notes and phones of all accounts, in one SQLite database; threads may share it."""

    def __init__(self, database: str) -> None:
        """Open the database, and make it where it is not."""
        self._database = sqlite3.connect(database, check_same_thread=False)
        self._database.executescript(Path(__file__).with_name("schema.sql").read_text())
        self._lock = threading.Lock()

    def add_device(self, account: str, registration_id: str, former: str = "") -> None:
        """Remember a phone; an ID that was refreshed takes the place of the former one."""
        with self._lock, self._database as database:
            database.execute("DELETE FROM device WHERE registration_id = ?", (former,))
            database.execute("REPLACE INTO device VALUES (?, ?)", (registration_id, account))

    def remove_device(self, registration_id: str) -> None:
        """Forget a phone."""
        with self._lock, self._database as database:
            database.execute("DELETE FROM device WHERE registration_id = ?", (registration_id,))

    def devices(self, account: str) -> list[str]:
        """Return the registration IDs of an account."""
        query = "SELECT registration_id FROM device WHERE account = ?"
        with self._lock:
            return [row[0] for row in self._database.execute(query, (account,))]

    def sync(
        self, account: str, since: int, changes: dict[str, str | None]
    ) -> tuple[int, dict[str, str | None]]:
        """Keep the changes; return the revision now, and the notes changed after `since`.

        Of two changes to one note the later one to arrive stays.
        """
        latest = "SELECT COALESCE(MAX(revision), 0) FROM note WHERE account = ?"
        changed = "SELECT id, text FROM note WHERE account = ? AND revision > ?"
        with self._lock, self._database as database:
            (revision,) = database.execute(latest, (account,)).fetchone()
            rows = [(account, note, text, revision + 1) for note, text in changes.items()]
            database.executemany("REPLACE INTO note VALUES (?, ?, ?, ?)", rows)
            notes = dict(database.execute(changed, (account, since)).fetchall())
        return revision + bool(changes), notes

    def close(self) -> None:
        """Close the database."""
        self._database.close()


class JumpNote:
    """What the server does, without its HTTP.

    Args:
        notes: where everything is kept.
        gateway: pings go through it.
        secret: shared with the gateway, which shows it in its callbacks; empty: none are taken.
    """

    def __init__(self, notes: Notes, gateway: PushClient, secret: str = "") -> None:
        self._notes = notes
        self._gateway = gateway
        self._secret = secret

    def answer(self, method: str, parts: list[str], content: Any) -> Answer:
        """Answer a request: the status, and what to send as JSON."""
        match method, parts, content:
            case "POST", [account, "devices"], {"registration_id": str(registration_id)}:
                former = content.get("former")
                self._notes.add_device(account, registration_id, str(former or ""))
                return 200, {}
            case "DELETE", [_, "devices", registration_id], _:
                self._notes.remove_device(registration_id)
                return 200, {}
            case "POST", ["callback"], {"device_token": str(gone), "shared_secret": str(secret)}:
                if not self._secret or not hmac.compare_digest(
                    secret.encode(), self._secret.encode()
                ):
                    return 403, {"error": "the secret is wrong"}
                self._notes.remove_device(gone)
                return 200, {}
            case "POST", [account, "sync"], {"since": int(since), "changes": dict(changes)}:
                if not all(text is None or isinstance(text, str) for text in changes.values()):
                    return 400, {"error": "a note is a text, or null"}
                revision, notes = self._notes.sync(account, since, changes)
                if changes:
                    self._ping(account, content.get("registration_id"))
                return 200, {"revision": revision, "notes": notes}
        return 400, {"error": "no such request"}

    def _ping(self, account: str, author: object) -> None:
        """Tell the account's other phones that there is something to fetch.

        One collapse key for each account: a phone that was away gets a single ping, however much
        has changed. The notes do not travel in the push: they may be long, and they are private.
        """
        key = hashlib.sha256(account.encode()).hexdigest()[:16]
        others = [device for device in self._notes.devices(account) if device != author]
        self._gateway.push_many(Push(device, {"account": account}, key) for device in others)


class Handler(BaseHTTPRequestHandler):
    """HTTP and JSON around `JumpNote`."""

    protocol_version = "HTTP/1.1"
    timeout = 30
    jumpnote: JumpNote

    def do_POST(self) -> None:
        """Read the body and answer."""
        length = self.headers.get("Content-Length", "0")
        whole = length.isascii() and length.isdigit() and "Transfer-Encoding" not in self.headers
        if not whole or int(length) > MOST_BODY:
            self.close_connection = True
            self._give(413, {"error": f"a body of at most {MOST_BODY} bytes is wanted"})
            return
        parts = [unquote(part) for part in self.path.split("/")[1:]]
        try:
            content = self._content(self.rfile.read(int(length)))
            answer = self.jumpnote.answer(self.command, parts, content)
        except (ValueError, OverflowError, RecursionError):
            answer = 400, {"error": "no JSON, or text or numbers that cannot be kept"}
        self._give(*answer)

    def _content(self, body: bytes) -> Any:
        """Read a body: JSON, or the form of a callback."""
        form = "application/x-www-form-urlencoded"
        if self.path == "/callback" and self.headers.get_content_type() == form:
            return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True))
        return json.loads(body or b"null")

    do_DELETE = do_POST

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - http.server's
        """Write no access log."""

    def _give(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve(jumpnote: JumpNote, port: int) -> ThreadingHTTPServer:
    """Return the server, listening on 127.0.0.1; port 0 is a free one."""
    handler = type("JumpNoteHandler", (Handler,), {"jumpnote": jumpnote})
    return ThreadingHTTPServer(("127.0.0.1", port), handler)


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="JumpNote's application server")
    parser.add_argument("--port", type=int, default=8090, help="0: a free one")
    parser.add_argument("--database", default="jumpnote.db", metavar="FILE")
    parser.add_argument("--gateway-host", default="127.0.0.1")
    parser.add_argument("--gateway-port", type=int, default=8120)
    shared = "holds the shared_secret of the gateway's [callback]"
    parser.add_argument("--secret-file", type=Path, metavar="FILE", help=shared)
    options = parser.parse_args()
    secret = options.secret_file.read_text().strip() if options.secret_file else ""
    notes = Notes(options.database)
    with PushClient(options.gateway_host, options.gateway_port) as gateway:
        server = serve(JumpNote(notes, gateway, secret), options.port)
        sys.stdout.write(f"serving at http://127.0.0.1:{server.server_port}\n")
        sys.stdout.flush()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass
        finally:
            server.server_close()
            notes.close()


if __name__ == "__main__":
    main()
