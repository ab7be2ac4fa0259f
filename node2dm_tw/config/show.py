"""Formats the current settings as a configuration file, without secrets."""

from typing import Any

import attrs

from node2dm_tw.config.converters import FileContent
from node2dm_tw.config.ini_lines import mask
from node2dm_tw.config.load import Settings

PERIODS = {1.0: "s", 60.0: "m", 3_600.0: "h", 86_400.0: "d"}


def format_settings(settings: Settings) -> list[str]:
    """Format the current settings as the lines of a configuration file, without secrets."""
    sections: list[tuple[str, Any]] = [("node2dm", settings.gateway)]
    sections += [(route.title, route) for route in settings.routes]
    sections += [(callback.title, callback) for callback in settings.callbacks]
    sections += [("statsd", settings.statsd)]
    lines: list[str] = []
    for title, values in sections:
        if values is not None:
            lines += [f"[{title}]", *_format_section(values)]
    return lines


def _format_section(values: Any) -> list[str]:
    """Format the options of a section; values of options that are not `shown` are hidden."""
    lines = []
    for field in attrs.fields(type(values)):
        if field.metadata:
            value = getattr(values, field.name)
            text = _format(value) if field.metadata["shown"] or value is None else "***"
            lines.append(f"{field.name} = {text}".rstrip())
    return lines


def _format(value: Any) -> str:
    """Format a value as the configuration file has it."""
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
            return ", ".join(map(_format, value))
        case FileContent():
            return str(value.path)
    return mask(str(value))
