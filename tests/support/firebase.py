"""Google's SDK for Python against the emulator; tests that use it are skipped without it."""

import os
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from node2dm_tw.emulator.testing import PushEmulator

try:
    import requests.adapters

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import firebase_admin
        from firebase_admin import credentials, messaging
except ImportError:
    if os.environ.get("CI") == "true":
        raise
    pytest.skip("firebase-admin is not installed", allow_module_level=True)

IGNORED = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
"""Marks of tests that use the SDK."""


@pytest.fixture(name="app")
def firebase_app(push_emulator: PushEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The SDK's app, signed in at the emulator."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(push_emulator.ca_file))
    url = push_emulator.fcm_url.replace(push_emulator.project, "{0}")
    monkeypatch.setattr(messaging._MessagingService, "FCM_URL", url)
    certificate = credentials.Certificate(str(push_emulator.service_account))
    app = firebase_admin.initialize_app(certificate, name="test")
    # google-auth would ask another host of Google's for a policy, in a thread of its own.
    app.credential.get_credential()._is_regional_access_boundary_lookup_required = lambda: False
    # The SDK waits seven seconds over an answer of 500 or 503; the test does not.
    client = messaging._get_messaging_service(app)._client
    client.session.mount("https://127.0.0.1", requests.adapters.HTTPAdapter(max_retries=0))
    yield app
    client.close()
    firebase_admin.delete_app(app)
