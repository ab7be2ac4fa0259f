"""The grammar of a push, as a table that the gateway, PushClient and node2dm-push are held to."""

import json
from typing import NamedTuple

from hypothesis import strategies as st

TOKENS = st.text(
    st.characters(
        codec="utf-8",
        exclude_categories=["Cc", "Cf", "Zs", "Zl", "Zp", "Pi", "Pf", "Ps", "Pe"],
        exclude_characters="\"'`<>",
    ),
    min_size=1,
    max_size=30,
)
"""Whatever may be a token."""

C2DM, FCM = "c2dm", "fcm"


class Case(NamedTuple):
    """A line and what it is.

    Args:
        line: as it comes in a datagram.
        push: device, collapse key, and the fields of the JSON form or the payload; or
        fault: reason and field.
        service: of the route.
    """

    line: bytes
    push: tuple[str, str, object] | None = None
    fault: tuple[str, str] | None = None
    service: str = C2DM

    @property
    def name(self) -> str:
        """For a test's ID."""
        return f"{self.service} {self.line[:70]!r}"


def _good(fields: dict[str, object], read: dict[str, object] | None = None, service: str = FCM):
    """An object that is a push, and what is kept of it where that differs."""
    kept = fields if read is None else read
    targets = ("token", "fid", "topic", "condition")
    device = next(str(kept[name]) for name in targets if kept.get(name))
    return Case(
        json.dumps(fields).encode(),
        (device, str(kept.get("collapse_key", "")), kept),
        None,
        service,
    )


def _bad(fields: dict[str, object] | bytes, reason: str, field: str = "", service: str = FCM):
    line = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    return Case(line, None, (reason, field), service)


def _nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = {"a": value}
    return value


T = {"token": "t"}
TK = {"token": "t", "collapse_key": "k"}
BLOCKS = ("android", "android_v2", "apns", "webpush", "fcm_options")
FIELDS = ("fid", "topic", "condition", "collapse_key", "data", "ttl", "priority", "notification")
NULLS = dict.fromkeys((*FIELDS, *BLOCKS, "validate_only", "new"))

BEYOND_SCHEMAS = [
    _bad(T | {"ttl": 60, "android": {"ttl": "61s"}}, "field", "android.ttl"),
    _bad(T | {"android": {"ttl": "60s"}, "android_v2": {"ttl": "61s"}}, "field", "android_v2.ttl"),
    _bad(TK | {"android": {"collapse_key": "l"}}, "field", "android.collapse_key"),
    _bad(TK | {"android_v2": {"collapse_key": ""}}, "field", "android_v2.collapse_key"),
    _bad(T | {"priority": "high", "android": {"priority": "NORMAL"}}, "field", "android.priority"),
    _bad(T | {"priority": "high", "android_v2": {}}, "field", "priority"),
    _bad(T | {"android": {"ttl": "2419201s"}}, "field", "android.ttl"),
    _bad(b'{"token":"t","webpush":{"a":1e999}}', "field", "webpush.a"),
    *(_bad(T | {name: {"a": _nested(16)}}, "field", name) for name in BLOCKS),
]
"""Faults that a JSON Schema does not express, such as depth, or a field in two places."""

OBJECTS = [
    # null means absent, wherever serializers write it for "not set"
    _good(T | NULLS, T),
    _good({"token": None, "fid": "f", "data": "x"}, {"fid": "f", "data": "x"}),
    _good(TK | {"data": {}, "ttl": None, "priority": None}, TK | {"data": {}}, C2DM),
    _good(
        T | {"notification": {"title": "x", "image": None}}, T | {"notification": {"title": "x"}}
    ),
    _bad({"token": None}, "token", "token"),
    _bad(T | {"data": {"a": None}}, "field", "data.a"),
    # numbers
    _good(T | {"ttl": 60}),
    _good(T | {"ttl": 60.0}, T | {"ttl": 60}),
    _good(T | {"ttl": -0.0}, T | {"ttl": 0}),
    _good(T | {"ttl": 2_419_200.0}, T | {"ttl": 2_419_200}),
    _good(T | {"ttl": 0}),
    Case(b'{"token":"t","ttl":6e1}', ("t", "", T | {"ttl": 60}), None, FCM),
    *(
        _bad(T | {"ttl": ttl}, "field", "ttl")
        for ttl in (-1, 2_419_201, 60.5, True, False, "60", "60s", [60], {}, "")
    ),
    _bad(b'{"token":"t","ttl":1e999}', "field", "ttl"),
    _bad(b'{"token":"t","ttl":-1e999}', "field", "ttl"),
    _bad(b'{"token":"t","ttl":NaN}', "json"),
    _bad(b'{"token":"t","ttl":Infinity}', "json"),
    _bad(b'{"token":"t","ttl":' + b"9" * 5_000 + b"}", "json"),
    _bad(b'{"token":"t","notification":{"title":1e999}}', "field", "notification.title"),
    # priority, in any case
    *(
        _good(T | {"priority": priority}, T | {"priority": priority.lower()})
        for priority in ("normal", "high", "HIGH", "High", "NORMAL")
    ),
    *(
        _bad(T | {"priority": priority}, "field", "priority")
        for priority in ("urgent", "", 1, True, ["high"], "high ")
    ),
    _bad(TK | {"priority": "HIGH"}, "unsupported", "priority", C2DM),
    # booleans
    _good(TK | {"delay_while_idle": True}, None, C2DM),
    _good(TK | {"delay_while_idle": False}, None, C2DM),
    _bad(T | {"delay_while_idle": True}, "unsupported", "delay_while_idle"),
    _bad(T | {"delay_while_idle": False}, "unsupported", "delay_while_idle"),
    *(
        _bad(TK | {"delay_while_idle": value}, "field", "delay_while_idle", C2DM)
        for value in (0, 1, "true", "", [], 1.0)
    ),
    # texts and data
    _good(T | {"data": ""}),
    _good(T | {"data": {"a": "", "b": "\u2028\r\x00\x85"}}),
    _good(T | {"data": "ends in CR\r"}),
    _bad(T | {"data": {"a": 1}}, "field", "data.a"),
    _bad(T | {"data": {"a": True}}, "field", "data.a"),
    _bad(T | {"data": {"a": {"b": "c"}}}, "field", "data.a"),
    _bad(T | {"data": {"": "x"}}, "field", "data"),
    _bad(T | {"data": ["x"]}, "field", "data"),
    _bad(T | {"data": 1}, "field", "data"),
    _bad(T | {"data": {"from": "x"}}, "reserved", "data.from"),
    _bad(T | {"collapse_key": 1}, "field", "collapse_key"),
    _bad({"token": 1}, "field", "token"),
    _bad({"token": ["a", "b"]}, "field", "token"),
    _bad(T | {"route": 1}, "field", "route"),
    _bad(T | {"route": ""}, "unknown_route", "route"),
    _bad(T | {"route": "nowhere"}, "unknown_route", "route"),
    _bad(T, "collapse_key", "collapse_key", C2DM),
    _bad(T | {"collapse_key": ""}, "collapse_key", "collapse_key", C2DM),
    # the application's own id
    *(_good(T | {"id": name}) for name in ("a", "order-7.2_b:C", "x" * 64)),
    _good(T | {"id": None}, T),
    *(
        _bad(T | {"id": name}, "field", "id")
        for name in ("", "x" * 65, "a b", "a/b", "a\n", "\u00fc", 7, True, ["a"], {})
    ),
    # half of a surrogate pair
    _bad({"token": "\ud800"}, "utf8", "token"),
    _bad(T | {"data": "\ud800"}, "utf8", "data"),
    _bad(T | {"collapse_key": "x\udfff"}, "utf8", "collapse_key"),
    _good(T | {"data": "\U0001f600"}),
    # names that are unknown or there twice
    _bad(T | {"colour": "red"}, "field", "colour"),
    _bad(T | {"Token": "x"}, "field", "Token"),
    _bad(T | {"": "x"}, "field", ""),
    _bad(T | {"x" * 500: "x"}, "field", "x" * 24 + "..."),
    _bad(b'{"token":"t","token":"u"}', "field", "token"),
    _bad(b'{"token":"t","token":"t"}', "field", "token"),
    _bad(b'{"token":"t","data":{"a":"b","a":"c"}}', "field", "a"),
    # notification
    _good(T | {"notification": {"title": "a", "body": "b"}}),
    _good(T | {"notification": {}}),
    _bad(T | {"notification": {"icon": "x"}}, "field", "notification.icon"),
    _bad(T | {"notification": {"title": 1}}, "field", "notification.title"),
    _bad(T | {"notification": {"a": _nested(15)}}, "field", "notification.a"),
    _bad(T | {"notification": {"a": _nested(16)}}, "field", "notification"),
    _bad(T | {"notification": {"a": _nested(500)}}, "field", "notification"),
    _bad(T | {"notification": "x"}, "field", "notification"),
    _bad(T | {"notification": []}, "field", "notification"),
    # blocks of FCM's Message
    *(
        _good(T | {name: value})
        for name in BLOCKS
        for value in ({}, {"new": [1.5, None, {"a": ""}]})
    ),
    *(
        _bad(T | {name: value}, "field", name)
        for name in BLOCKS
        for value in ("x", "", [], 1, True)
    ),
    *(_bad(TK | {name: {}}, "unsupported", name, C2DM) for name in BLOCKS),
    _good(T | {"apns": {"a": _nested(15)}}),
    _good(T | {name: {} for name in BLOCKS}),
    _good(T | {"ttl": 60, "android": {"ttl": "60.0s"}, "android_v2": {"ttl": "60s"}}),
    _good(TK | {"android": {"collapse_key": "k"}, "android_v2": {"collapse_key": "k"}}),
    _good(T | {"priority": "high", "android": {"priority": "High"}, "android_v2": {}}),
    *BEYOND_SCHEMAS,
    *(
        _bad(T | {"android": {"ttl": ttl}}, "field", "android.ttl")
        for ttl in (60, "60", "-1s", "1h", "")
    ),
    _bad(T | {"android": {"priority": "urgent"}}, "field", "android.priority"),
    _bad(T | {"android_v2": {"collapse_key": 1}}, "field", "android_v2.collapse_key"),
    _bad(T | {"android_v2": {"priority": "HIGH"}}, "field", "android_v2.priority"),
    _bad(T | {"apns": {"headers": []}}, "field", "apns.headers"),
    _bad(b'{"token":"t","webpush":{"a":1,"a":1}}', "field", "a"),
    _bad(T | {"webpush": {"a": "\ud800"}}, "utf8", "webpush.a"),
    *(_good(T | {"validate_only": value}) for value in (True, False)),
    *(_bad(T | {"validate_only": value}, "field", "validate_only") for value in (0, 1, "true", "")),
    _bad(TK | {"validate_only": False}, "unsupported", "validate_only", C2DM),
    # urgent: both services can carry it, also beside a subscription
    *(_good(TK | {"urgent": True}, None, service) for service in (C2DM, FCM)),
    _good(T | {"urgent": False}),
    _good(T | {"urgent": None}, T),
    _good(T | {"subscribe": "news", "urgent": True}),
    *(_bad(T | {"urgent": value}, "field", "urgent") for value in (0, 1, "true", "", [])),
    # targets
    _good({"fid": "f"}),
    _good({"topic": "news"}),
    _good({"condition": "'a' in topics && ('b' in topics)"}),
    _bad({}, "token", "token"),
    _bad({"data": "x"}, "token", "token"),
    _bad({"token": ""}, "token", "token"),
    _bad({"fid": ""}, "token", "fid"),
    _bad({"token": "", "topic": "news"}, "token", "token"),
    _bad({"token": "t", "fid": "f"}, "target", "fid"),
    _bad({"token": "t", "topic": ""}, "target", "topic"),
    _bad({"topic": "a b"}, "field", "topic"),
    _bad({"topic": "x" * 901}, "field", "topic"),
    _bad({"condition": "nonsense"}, "field", "condition"),
    _good({"token": "cOQ1Zx-kT8u:APA91b_" + "x" * 140}),
    _good({"token": "t\u00f6k|en:a"}),
    _good({"token": "x" * 4_096}),
    _bad({"token": "x" * 4_097}, "token", "token"),
    _bad({"fid": "\u00fc" * 2_049}, "token", "fid"),
    *(
        _bad({name: f"to{sign}ken"}, "token", name)
        for name in ("token", "fid")
        for sign in " \t\n\r\0\x1b\x7f\x85\"'`(){}[]<>\xa0\xad\u200b\u2028\u202e\u3000\ufeff\u201c"
    ),
    # subscriptions
    _good(T | {"subscribe": "news"}),
    _good({"fid": "f", "unsubscribe": "a.b~c%-_9"}),
    _good({"subscribe": "/topics/news", "token": "t"}, T | {"subscribe": "news"}),
    _good(T | {"subscribe": "news", "data": None, "id": "a"}, T | {"subscribe": "news", "id": "a"}),
    _bad({"subscribe": "news"}, "token", "token"),
    _bad(T | {"subscribe": ""}, "field", "subscribe"),
    _bad(T | {"subscribe": 1}, "field", "subscribe"),
    _bad(T | {"subscribe": "a b"}, "field", "subscribe"),
    _bad(T | {"unsubscribe": "x" * 901}, "field", "unsubscribe"),
    _bad(T | {"unsubscribe": ".."}, "field", "unsubscribe"),
    _bad({"topic": "sport", "subscribe": "news"}, "field", "topic"),
    _bad(T | {"subscribe": "a", "unsubscribe": "b"}, "field", "unsubscribe"),
    _bad(T | {"subscribe": "a", "data": ""}, "field", "data"),
    _bad(T | {"subscribe": "a", "ttl": 0}, "field", "ttl"),
    _bad(TK | {"unsubscribe": "a"}, "field", "collapse_key"),
    _bad(T | {"subscribe": "a"}, "unsupported", "subscribe", C2DM),
    _bad(TK | {"unsubscribe": "a"}, "unsupported", "unsubscribe", C2DM),
    # sizes
    _good(TK | {"data": {"key": "x" * 1_021}}, None, C2DM),
    _bad(TK | {"data": {"key": "x" * 1_022}}, "too_large", "data", C2DM),
    _bad(TK | {"data": {"a": "\u00fc" * 500, "b": "\u00fc" * 12}}, "too_large", "data", C2DM),
    _bad(T | {"collapse_key": "x" * 1_025}, "too_large", "collapse_key", C2DM),
    _good(T | {"data": "x" * 4_092}),
    _bad(T | {"data": "x" * 4_093}, "too_large", "data"),
    _bad({"topic": "t", "data": "x" * 2_045}, "too_large", "data"),
    _bad(T | {"notification": {"title": "x" * 4_092}}, "too_large", "notification"),
    # what stands round an object
    *(
        Case(before + b'{"token":"t"}' + after, ("t", "", T), None, FCM)
        for before in (
            b"",
            b" ",
            b"\t ",
            b"\r",
            b"\xef\xbb\xbf",
            b"\xef\xbb\xbf ",
            b" \xef\xbb\xbf",
        )
        for after in (b"", b" ", b"\r", b"\0", b"\r\0", b"\0\0\0", b" \r")
    ),
    _bad(b'{"token":"t"} x', "json"),
    _bad(b'{"token":"t"}{"token":"u"}', "json"),
    _bad(b'{"token":"t"},', "json"),
    _bad(b"{'token':'t'}", "json"),
    _bad(b'{token:"t"}', "json"),
    _bad(b'{"token":"t",}', "json"),
    _bad(b'{"token":"t\x00"}', "json"),
    _bad(b"{", "json"),
    _bad(b'{"a":' * 5_000, "json"),
    _bad(b'{"token":"\xff"}', "utf8"),
]
"""Lines that begin with a brace, which are rows of node2dm-push as well."""

LINES = [
    # node2dm's form, whatever Google gave out
    Case(b"APA91bH_x-9:key:hello", ("APA91bH_x-9", "key", "hello")),
    Case(b"demo-phone:k:", ("demo-phone", "k", "")),
    Case(b"a:b:c:d|e", ("a", "b", "c:d|e")),
    Case(b"a:b|c:d", ("a", "b|c", "d")),
    Case(b"a:k e y:{}", ("a", "k e y", "{}")),
    Case(b"a:b:GET / HTTP/1.1", ("a", "b", "GET / HTTP/1.1")),
    Case("t\u00f6ken:k:\u2028\u0085".encode(), ("t\u00f6ken", "k", "\u2028\u0085")),
    Case(b'cOQ:APA91b-_:k:{"a":1}', ("cOQ:APA91b-_", "k", '{"a":1}'), None, FCM),
    Case(b"fid::hello", ("fid", "", "hello"), None, FCM),
    # the end of a line
    *(
        Case(b"tok:key:hello" + end, ("tok", "key", "hello"))
        for end in (b"", b"\r", b"\0", b"\r\0", b"\0\r", b"\r\r", b"\0\0\0")
    ),
    Case(b"tok:key:a\rb\0c \r", ("tok", "key", "a\rb\0c ")),
    Case(b"tok:key:\r", ("tok", "key", "")),
    _bad(b"\r", "empty", "", C2DM),
    _bad(b"\0\0", "empty", "", C2DM),
    # JSON that is no object, and parts of it
    *(
        _bad(line, "json", "", service)
        for service in (C2DM, FCM)
        for line in (
            b"[]",
            b'[{"token":"t","data":{"a":"b"}}]',
            b" [1,2]",
            b'\xef\xbb\xbf["a:b:c"]',
            b'"text"',
            b'"a:b:c"',
            b'"a\\"b"',
            b"12",
            b"-1.5e3",
            b"true",
            b"false",
            b"null",
            b"[",
            b"]",
            b"],",
            b"}",
            b"},",
            b'  "data": {',
            b'    "token": "abc",',
            b'"a",',
            b'[{"token": "a",',
            b"{",
        )
    ),
    *(
        _bad(line, "token", "", service)
        for service in (C2DM, FCM)
        for line in (
            b'    "url": "http://x.example:80/"',
            b'  "token": "a:b",',
            b"{token}:key:{}"[1:],
            b'app"le:key:{}',
            b"<13>Nov 27 02:16:53 host app: {}",
            b"<13>app: hello: {}",
            b"Nov 27 02:16:53 host app",
            b"date: Mon, 23 Nov 2026 03:00:00"[4:],
            b"t\0o\0k\0:\0k\0:\0p\0",
            b"my phone:key:{}",
            b" tok:key:{}",
            b"\ttok:key:{}",
            "\u00a0tok:key:{}".encode(),
            "\ufefftok:key:{}".encode(),
            "tok\u200b:key:{}".encode(),
            "t\u202eok:key:{}".encode(),
            "to\u00adk:key:{}".encode(),
            "to\u2028k:key:{}".encode(),
            "\u201ctok\u201d:key:{}".encode(),
            b"to\x7fk:key:{}",
            "to\u0085k:key:{}".encode(),
            b"x" * 4_097 + b":key:{}",
            b":key:{}",
        )
    ),
    *(
        _bad(line, "colons", "", C2DM)
        for line in (
            b"no colon",
            b"one:colon",
            b"token = x",
            b"token: abc",
            b"- token: abc",
            b"a.b:1|c",
            b"token=abc&data=x%3Ay",
            b"cpu,host=a value=1 1234",
            b"   ",
            b"\xff",
        )
    ),
    _bad(b"token::payload", "collapse_key", "collapse_key", C2DM),
    _bad(b"token:key:\xff\xfe", "utf8", "", C2DM),
    _bad("t:k:\u00fc".encode("utf-16"), "utf8", "", C2DM),
    _bad(b"t:k:\xed\xa0\x80", "utf8", "", C2DM),
    _bad(b"nowhere|token:key:payload", "unknown_route", "route", C2DM),
    _bad(b'app|{"token":"t"}', "unknown_route", "route", C2DM),
    _bad(b"f:APA91b:key:hello", "ambiguous"),
    Case(b"t:k:" + b"x" * 1_020, ("t", "k", "x" * 1_020)),
    _bad(b"t:k:" + b"x" * 1_021, "too_large", "data", C2DM),
    _bad(b"t:k:{}" + "\u00fc".encode() * 510, "too_large", "data", C2DM),
    _bad(b"t:" + b"k" * 1_025 + b":x", "too_large", "collapse_key", C2DM),
    _bad(b"t:k:{" + b"x" * 4_092, "too_large", "data"),
]
"""Lines in node2dm's form, and what is in none."""
