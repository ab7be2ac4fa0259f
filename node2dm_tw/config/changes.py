"""Applies a changed configuration file to the settings while the gateway runs."""

from typing import Any, TypeVar

import attrs

from node2dm_tw.config.load import Settings

Reloaded = TypeVar("Reloaded", bound=attrs.AttrsInstance)


def take_changes(old: Settings, new: Settings) -> tuple[Settings, list[str], list[str]]:
    """Apply the changes that may take effect while the process runs.

    Returns:
        The settings from now on, and the changed options as ``[section] option``: first those that
        take effect, then those that wait for a restart.
    """
    reloaded: list[str] = []
    waiting: list[str] = []
    gateway = _reload_section("node2dm", old.gateway, new.gateway, reloaded, waiting)
    others: dict[str, Any] = {}
    for name in ("routes", "route_callbacks"):
        coming = {section.title: section for section in getattr(new, name)}
        others[name] = tuple(
            _reload_section(
                section.title, section, coming.pop(section.title, None), reloaded, waiting
            )
            for section in getattr(old, name)
        )
        waiting += [f"[{title}]" for title in coming]
    for title in ("callback", "statsd"):
        before, after = getattr(old, title), getattr(new, title)
        if before is not None:
            others[title] = _reload_section(title, before, after, reloaded, waiting)
        elif after is not None:
            waiting.append(f"[{title}]")
    return attrs.evolve(old, gateway=gateway, **others), reloaded, waiting


def _reload_section(
    title: str, old: Reloaded, new: Reloaded | None, reloaded: list[str], waiting: list[str]
) -> Reloaded:
    if new is None:
        waiting.append(f"[{title}]")
        return old
    taken: dict[str, Any] = {}
    for field in attrs.fields(type(old)):
        value = getattr(new, field.name)
        if value != getattr(old, field.name):
            reloads = field.metadata["reloads"]
            (reloaded if reloads else waiting).append(f"[{title}] {field.name}")
            if reloads:
                taken[field.name] = value
    return attrs.evolve(old, **taken)  # type: ignore[misc]  # mypy knows no bound on classes
