"""The settings in force as a file would have them, without what may be secret."""

import re
from typing import Any

import attrs

from node2dm_tw.config import Settings

PERIODS = {1.0: "s", 60.0: "m", 3_600.0: "h", 86_400.0: "d"}

SHOWN = {
    "node2dm": (
        "udp", "stats", "web", "web_hosts", "allow", "state_dir", "max_queued", "max_age", "drain",
        "rcvbuf", "reuse_port", "http_client", "queue", "claim_after", "log_level", "log_format",
    ),
    "c2dm": (
        "username", "source", "login_url", "send_url", "ca_file", "prefix", "max_in_flight",
        "timeout", "token_max_age", "device_block", "device_rate", "device_burst",
    ),
    "fcm": (
        "service_account", "project", "prefix", "url", "ca_file", "max_in_flight", "timeout",
        "max_age", "device_rate", "device_burst", "project_rate", "bad_device_alarm",
    ),
    "callback": ("protocol", "host", "port", "timeout", "retries"),
    "statsd": ("host", "port", "prefix", "interval"),
}  # fmt: skip
"""The options whose values telnet's `config` shows; what is not named here is hidden."""


def shown(settings: Settings) -> list[str]:
    """Write out the settings in force as a file would have them, without what may be secret."""
    sections: list[tuple[str, Any]] = [("node2dm", settings.gateway)]
    sections += [(route.title, route) for route in settings.routes]
    sections += [("callback", settings.callback), ("statsd", settings.statsd)]
    lines: list[str] = []
    for title, values in sections:
        if values is not None:
            lines += [f"[{title}]", *_shown_section(title.partition(":")[0], values)]
    return lines


def _shown_section(kind: str, values: Any) -> list[str]:
    lines = []
    for field in attrs.fields(type(values)):
        if field.metadata:
            value = getattr(values, field.name)
            text = _shown(value) if field.name in SHOWN[kind] or value is None else "***"
            lines.append(f"{field.name} = {text}".rstrip())
    return lines


def _shown(value: Any) -> str:
    """Write a value as it may stand in a file; what logs in by an address is hidden in it."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.15g}"
        case (int(count), float(per)):
            return f"{count}/{PERIODS[per]}"
        case (str(host), int(port)):
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        case tuple():
            return ", ".join(map(_shown, value))
    return re.sub(r"//[^/@]*@", "//***@", str(value)).partition("?")[0]
