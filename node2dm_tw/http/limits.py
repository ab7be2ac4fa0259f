"""Times that hold for every client, in seconds."""

IDLE_TIMEOUT = 60
"""How long an idle connection is kept: well below the 3 minutes after which servers close it."""
