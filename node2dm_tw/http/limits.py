"""Times that hold for every client, in seconds."""

CONNECT_TIMEOUT = 10.0
"""For name look-up, TCP and TLS handshake together."""

IDLE_TIMEOUT = 60
"""How long an idle connection is kept: well below the 3 minutes after which servers close it."""
