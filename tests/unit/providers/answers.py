"""What the tests of the providers share: answers, and strategies for whatever may come."""

import json

from hypothesis import strategies as st

from node2dm_tw.http.interface import Response
from node2dm_tw.providers.interface import Credential

NOW = 1_700_000_000.0
CREDENTIAL = Credential(b"Bearer secret", 1, NOW, NOW + 3_600)


def answer(status=200, body=b"", truncated=False, **headers):
    """An answer; `Retry_After="3"` makes a header."""
    named = {k.lower().replace("_", "-").encode(): v.encode() for k, v in headers.items()}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status, named, content, truncated)


TEXT = st.text(st.characters(codec="utf-8"), max_size=60)
NAME = TEXT.filter(bool)
SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=12,
)
STATUSES = st.sampled_from([200, 302, 400, 401, 403, 404, 429, 500, 503]) | st.integers(100, 999)
HEADERS = st.dictionaries(
    st.sampled_from([b"retry-after", b"update-client-auth", b"date"]), st.binary(max_size=40)
)


def responses(bodies):
    """Answers of any status and headers, their bodies drawn from `bodies` or of any bytes."""
    return st.builds(Response, STATUSES, HEADERS, bodies | st.binary(max_size=200), st.booleans())
