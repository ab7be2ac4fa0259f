"""JumpNote, the phone's side: notes that follow the user from phone to phone.

Commands, one a line: add TEXT, edit NOTE TEXT, delete NOTE, list, sync, forget (unregister, and
end), quit.
"""

import json
import secrets
import sys
import threading
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import quote, urlsplit

from examples.emulated_phone import Phone, phone_options, register, say
from node2dm_tw.emulator.phone.client import RequestRejected

APP = "com.example.jumpnote"


class Server:
    """The application server, for one account.

    Args:
        url: where it listens, such as http://127.0.0.1:8090.
        account: whose notes.
    """

    def __init__(self, url: str, account: str) -> None:
        self._host = urlsplit(url).netloc
        self._account = quote(account, safe="")

    def ask(self, method: str, path: str, content: Any = None) -> dict[str, Any]:
        """Send JSON to a path below the account, and return the JSON of the answer.

        Raises:
            OSError: there was no answer, or it was a refusal.
        """
        connection = HTTPConnection(self._host, timeout=10)
        try:
            connection.request(method, f"/{self._account}/{path}", json.dumps(content))
            answer = connection.getresponse()
            text = answer.read()
        except HTTPException as error:
            raise ConnectionError(f"no answer: {error!r}") from error
        finally:
            connection.close()
        if answer.status != 200:
            raise ConnectionError(f"{answer.status} {text.decode()}")
        return dict(json.loads(text))


class NotesOnPhone:
    """The phone's own copy of the notes, and what the server has yet to be told."""

    def __init__(self, phone: Phone, server: Server) -> None:
        """Begin with no notes; the first sync fetches them all."""
        self._phone = phone
        self._server = server
        self._lock = threading.Lock()
        self._notes: dict[str, str] = {}
        self._unsent: dict[str, str | None] = {}
        self._revision = 0

    def change(self, note: str, text: str | None) -> None:
        """Write a note, or delete it (None), here and then on the server."""
        with self._lock:
            self._unsent[note] = text
            self._keep(note, text)
        self.sync()

    def sync(self) -> None:
        """Send what is unsent and fetch what is new; what fails is tried again the next time."""
        with self._lock:
            content = {
                "registration_id": self._phone.registration_id,
                "since": self._revision,
                "changes": self._unsent,
            }
            try:
                answer = self._server.ask("POST", "sync", content)
            except OSError as error:
                say(f"not synced: {error}")
                return
            self._unsent = {}
            self._revision = answer["revision"]
            for note, text in answer["notes"].items():
                self._keep(note, text)

    def show(self) -> None:
        """Print every note."""
        with self._lock:
            for note, text in sorted(self._notes.items()):
                say(f"note {note}: {text}")

    def _keep(self, note: str, text: str | None) -> None:
        if self._notes.get(note) == text:
            return
        if text is None:
            del self._notes[note]
            say(f"deleted {note}")
        else:
            self._notes[note] = text
            say(f"note {note}: {text}")


def enrol(phone: Phone, server: Server, former: str = "") -> None:
    """Give the server the ID to ping, in the place of the former one."""
    content = {"registration_id": phone.registration_id, "former": former}
    try:
        server.ask("POST", "devices", content)
    except OSError as error:
        say(f"the server cannot ping this phone: {error}")


def listen(phone: Phone, server: Server, notes: NotesOnPhone) -> None:
    """Sync at each ping, and tell the server when Google refreshes the registration ID."""
    known = phone.registration_id
    for name, _ in phone.events():
        if name == "message":
            say("ping")
            notes.sync()
        elif name == "registration":
            enrol(phone, server, known)
            known = phone.registration_id
            say("registered anew")


def forget(phone: Phone, server: Server) -> None:
    """Take the phone out of the account, and then end its registration."""
    try:
        server.ask("DELETE", f"devices/{quote(phone.registration_id, safe='')}")
        phone.unregister()
    except (OSError, RequestRejected) as error:
        say(f"not forgotten: {error}")


def obey(notes: NotesOnPhone, line: str) -> str:
    """Do what a line says; return its command."""
    command, _, rest = line.strip().partition(" ")
    match command, rest.split(" ", 1):
        case "add", _ if rest:
            notes.change(secrets.token_hex(4), rest)
        case "edit", [note, text]:
            notes.change(note, text)
        case "delete", [note] if note:
            notes.change(note, None)
        case "list", _:
            notes.show()
        case "sync", _:
            notes.sync()
        case (("quit" | "forget" | ""), _):
            pass
        case _:
            say("add TEXT, edit NOTE TEXT, delete NOTE, list, sync, forget, quit")
    return command


def main() -> None:
    """Register with Google and with the server, then listen to both sides."""
    parser = phone_options("JumpNote's phone")
    parser.add_argument("--account", default="user@example.com", help="whose notes")
    parser.add_argument("--server", default="http://127.0.0.1:8090", metavar="URL")
    options = parser.parse_args()
    phone = register(options, APP)
    server = Server(options.server, options.account)
    notes = NotesOnPhone(phone, server)
    enrol(phone, server)
    threading.Thread(target=listen, args=(phone, server, notes), daemon=True).start()
    notes.sync()
    say(f"ready {phone.registration_id}")
    for line in sys.stdin:
        command = obey(notes, line)
        if command == "forget":
            forget(phone, server)
        if command in ("quit", "forget"):
            break


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
