"""JumpNote, the phone's side: notes that follow the user from phone to phone.

Commands, one a line: add TEXT, edit NOTE TEXT, delete NOTE, list, sync, forget (unregister, and
end), quit.
"""

import secrets
import sys
import threading
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import quote, urlsplit

from examples.emulated_phone import Emulator, RegistrationFailed, ask, phone_options, say

APP = "com.example.jumpnote"

Ask = Callable[..., tuple[int, Any]]
"""Takes method, path below the account, and content; see `ask`."""


class NotesOnPhone:
    """The phone's own copy of the notes, and what the server has yet to be told."""

    def __init__(self, registration_id: str, ask_server: Ask) -> None:
        """Begin with no notes; the first sync fetches them all."""
        self.registration_id = registration_id
        self._ask = ask_server
        self._lock = threading.Lock()
        self._notes: dict[str, str] = {}
        self._unsent: dict[str, str | None] = {}
        self._revision = 0

    def register(self, registration_id: str) -> None:
        """Give the server the ID to ping, in the place of the one before."""
        content = {"registration_id": registration_id, "former": self.registration_id}
        self.registration_id = registration_id
        try:
            self._ask("POST", "/devices", content)
        except (OSError, HTTPException) as error:
            say(f"the server does not answer ({error}): it cannot ping this phone")

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
                "registration_id": self.registration_id,
                "since": self._revision,
                "changes": self._unsent,
            }
            try:
                status, answer = self._ask("POST", "/sync", content)
            except (OSError, HTTPException) as error:
                say(f"not synced: {error}")
                return
            if status != 200:
                say(f"not synced: {answer.get('error', status)}")
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


def listen(emulator: Emulator, notes: NotesOnPhone) -> None:
    """Sync at each ping, and tell the server when Google refreshes the registration ID."""
    for name, fields in emulator.events(notes.registration_id):
        if name == "message":
            say("ping")
            notes.sync()
        elif name == "registration":
            notes.register(fields["registration_id"])
            say("registered anew")


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


def forget(emulator: Emulator, notes: NotesOnPhone, ask_server: Ask) -> None:
    """Take the phone out of the account, and end its registration."""
    try:
        ask_server("DELETE", f"/devices/{quote(notes.registration_id, safe='')}")
        emulator.unregister(notes.registration_id)
    except (OSError, HTTPException) as error:
        say(f"not forgotten: {error}")


def main() -> int:
    """Register with Google and with the server, then listen to both sides."""
    parser = phone_options("JumpNote's phone")
    parser.add_argument("--account", default="user@example.com", help="whose notes")
    parser.add_argument("--server", default="http://127.0.0.1:8090", metavar="URL")
    options = parser.parse_args()
    host = urlsplit(options.server).netloc

    def ask_server(method: str, path: str, content: Any = None) -> tuple[int, Any]:
        connection = HTTPConnection(host, timeout=10)
        return ask(connection, method, f"/{quote(options.account, safe='')}{path}", content)

    emulator = Emulator(options.emulator, options.ca_file)
    try:
        registration_id = emulator.register(options.sender, APP, options.device)
    except RegistrationFailed as error:
        say(f"cannot register: {error}")
        return 1
    notes = NotesOnPhone(registration_id, ask_server)
    notes.register(registration_id)
    threading.Thread(target=listen, args=(emulator, notes), daemon=True).start()
    notes.sync()
    say(f"ready {registration_id}")
    for line in sys.stdin:
        command = obey(notes, line)
        if command == "forget":
            forget(emulator, notes, ask_server)
        if command in ("quit", "forget"):
            break
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
