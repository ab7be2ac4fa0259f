"""The fields of an FCM message, and their readers from JSON.

They follow https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages and
protobuf's JSON mapping: names are in lower camel case or have underscores, null means absent.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs

Read = Callable[[Any, str], Any]
"""Converts the value at a path; raises `Invalid`."""


@attrs.frozen
class Invalid(Exception):
    """An invalid message.

    Args:
        message: the text for the client.
        field: the path of the invalid field; empty if it is unknown.
        fcm: FCM itself rejects it, not the JSON parser before it.
    """

    message: str
    field: str = ""
    fcm: bool = False


def invalid_type(value: object, path: str, kind: str) -> Invalid:
    """Build the error for a value of another type, in Google's words."""
    shown = json.dumps(value)
    return Invalid(f"Invalid value at '{path}' ({kind}), {shown[:200]}", path)


def text(value: Any, path: str) -> str:
    """Read a string."""
    if not isinstance(value, str):
        raise invalid_type(value, path, "TYPE_STRING")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise invalid_type(value, path, "TYPE_STRING") from None
    return value


def boolean(value: Any, path: str) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise invalid_type(value, path, "TYPE_BOOL")
    return value


def int32(value: Any, path: str) -> int:
    """Read a 32-bit integer, which may be written as a string."""
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,10}", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**31) <= value < 2**31:
        raise invalid_type(value, path, "TYPE_INT32")
    return value


def number(value: Any, path: str) -> float:
    """Read a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid_type(value, path, "TYPE_FLOAT")
    return value


def duration(value: Any, path: str) -> float:
    """Read seconds such as ``3600s`` or ``0.5s``."""
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,12}(\.[0-9]{1,9})?s", value):
        return float(value[:-1])
    name = path.rpartition(".")[2]
    raise Invalid(
        f"Invalid value at '{path}' (type.googleapis.com/google.protobuf.Duration), Field "
        f"'{name}', Illegal duration format; duration must end with 's'",
        path,
    )


def timestamp(value: Any, path: str) -> str:
    """Read a time in the format of RFC 3339."""
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)"
    if not isinstance(value, str) or not re.fullmatch(stamp, value, re.ASCII):
        raise invalid_type(value, path, "type.googleapis.com/google.protobuf.Timestamp")
    return value


def struct(value: Any, path: str) -> Any:
    """Read an object with any content."""
    if not isinstance(value, dict):
        raise invalid_type(value, path, "type.googleapis.com/google.protobuf.Struct")
    return value


def string_map(value: Any, path: str) -> dict[str, str]:
    """Read an object of strings."""
    if not isinstance(value, dict):
        raise invalid_type(value, path, "Map")
    return {
        text(key, f"{path}[{index}].key"): text(each, f"{path}[{index}].value")
        for index, (key, each) in enumerate(value.items())
    }


def list_of(read: Read) -> Read:
    """Make a reader of lists."""

    def read_list(value: Any, path: str) -> list[Any]:
        if not isinstance(value, list):
            raise invalid_type(value, path, "TYPE_LIST")
        return [read(each, f"{path}[{index}]") for index, each in enumerate(value)]

    return read_list


def enum(*names: str) -> Read:
    """Make a reader of the names of an enum, which Google accepts in any case."""

    def read_name(value: object, path: str) -> str:
        if isinstance(value, str) and value.upper() in names:
            return value.upper()
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
            return names[value]
        raise invalid_type(value, path, "TYPE_ENUM")

    return read_name


def fields(**readers: Read) -> Read:
    """Make a reader of objects with these fields and no others."""

    def read_fields(value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise invalid_type(value, path, "object")
        content: dict[str, Any] = {}
        for given, each in value.items():
            name = given if given in readers else _underscored(given)
            if name not in readers:
                raise _unknown(given, path)
            if each is not None:
                content[name] = readers[name](each, f"{path}.{name}" if path else name)
        return content

    return read_fields


def _underscored(name: str) -> str:
    return re.sub("[A-Z]", lambda match: f"_{match[0].lower()}", name)


def _unknown(name: str, path: str) -> Invalid:
    shown = json.dumps(name[:200])
    where = f" at '{path}'" if path else ""
    message = f"Invalid JSON payload received. Unknown name {shown}{where}: Cannot find field."
    return Invalid(message, path)


_COLOR = fields(red=number, green=number, blue=number, alpha=number)

_ANDROID_NOTIFICATION = fields(
    title=text,
    body=text,
    icon=text,
    color=text,
    sound=text,
    tag=text,
    click_action=text,
    body_loc_key=text,
    body_loc_args=list_of(text),
    title_loc_key=text,
    title_loc_args=list_of(text),
    channel_id=text,
    ticker=text,
    sticky=boolean,
    event_time=timestamp,
    local_only=boolean,
    notification_priority=enum(
        "PRIORITY_UNSPECIFIED",
        "PRIORITY_MIN",
        "PRIORITY_LOW",
        "PRIORITY_DEFAULT",
        "PRIORITY_HIGH",
        "PRIORITY_MAX",
    ),
    default_sound=boolean,
    default_vibrate_timings=boolean,
    default_light_settings=boolean,
    vibrate_timings=list_of(duration),
    visibility=enum("VISIBILITY_UNSPECIFIED", "PRIVATE", "PUBLIC", "SECRET"),
    notification_count=int32,
    light_settings=fields(color=_COLOR, light_on_duration=duration, light_off_duration=duration),
    image=text,
    bypass_proxy_notification=boolean,
    proxy=enum("PROXY_UNSPECIFIED", "ALLOW", "DENY", "IF_PRIORITY_LOWERED"),
)

_ANDROID = fields(
    collapse_key=text,
    priority=enum("NORMAL", "HIGH"),
    ttl=duration,
    restricted_package_name=text,
    data=string_map,
    notification=_ANDROID_NOTIFICATION,
    fcm_options=fields(analytics_label=text),
    direct_boot_ok=boolean,
    bandwidth_constrained_ok=boolean,
    restricted_satellite_ok=boolean,
)

_ANDROID_V2 = fields(
    collapse_key=text,
    ttl=duration,
    restricted_package_name=text,
    data=string_map,
    # Their own fields may change: this part of FCM is a preview.
    remote_notification=struct,
    background_sync=struct,
    fcm_options=fields(analytics_label=text),
    direct_boot_ok=boolean,
    bandwidth_constrained_ok=boolean,
    restricted_satellite_ok=boolean,
)

_WEBPUSH = fields(
    headers=string_map,
    data=string_map,
    notification=struct,
    fcm_options=fields(link=text, analytics_label=text),
)

_APNS = fields(
    headers=string_map,
    payload=struct,
    fcm_options=fields(analytics_label=text, image=text),
    live_activity_token=text,
)

read_request = fields(
    message=fields(
        name=text,
        data=string_map,
        notification=fields(title=text, body=text, image=text),
        android=_ANDROID,
        android_v2=_ANDROID_V2,
        webpush=_WEBPUSH,
        apns=_APNS,
        fcm_options=fields(analytics_label=text),
        token=text,
        fid=text,
        topic=text,
        condition=text,
    ),
    validate_only=boolean,
)
"""Reads the body of ``messages:send``."""

read_subscription = fields(name=text, topic_name=text, create_time=timestamp)
"""Reads a TopicSubscription."""


def read_json(body: bytes, read: Read = read_request) -> Mapping[str, Any]:
    """Read the body of a request into names with underscores.

    Args:
        read: reads the object in it.

    Raises:
        Invalid: with Google's text.
    """
    try:
        content = _DECODER.decode(body.decode())
    except (ValueError, RecursionError):
        raise Invalid("Invalid JSON payload received. Expected a value.") from None
    if not isinstance(content, dict):
        raise Invalid(
            'Invalid JSON payload received. Unknown name "": Root element must be a message.'
        )
    try:
        request: Mapping[str, Any] = read(content, "")
    except RecursionError:
        raise Invalid("Invalid JSON payload received. Too deep.") from None
    return request


def _no_constant(name: str) -> None:
    raise ValueError(name)


_DECODER = json.JSONDecoder(parse_constant=_no_constant)
