"""Limits of all HTTP clients, in seconds."""

IDLE_TIMEOUT = 60
"""Time after which an idle connection is closed; servers close it after 3 minutes."""
