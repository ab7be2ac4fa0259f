"""A push with every field of FCM's Message.

Source: https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages.
"""

from typing import Any

_ANDROID: dict[str, Any] = {
    "collapse_key": "k",
    "ttl": "3600s",
    "restricted_package_name": "com.example",
    "data": {"b": "2"},
    "fcm_options": {"analytics_label": "a"},
    "direct_boot_ok": True,
    "bandwidth_constrained_ok": False,
    "restricted_satellite_ok": True,
}

WHOLE: dict[str, Any] = {
    "token": "t",
    "data": {"data": 'with "quotes", ; and \u00fc'},
    "notification": {"title": "T", "body": "B", "image": "https://x.example/i.png"},
    "android": _ANDROID
    | {
        "priority": "HIGH",
        "notification": {
            "title": "T",
            "body": "B",
            "icon": "i",
            "color": "#00ff00",
            "sound": "s",
            "tag": "t",
            "click_action": "c",
            "body_loc_key": "b",
            "body_loc_args": ["x", "y"],
            "title_loc_key": "t",
            "title_loc_args": ["z"],
            "channel_id": "scores",
            "ticker": "t",
            "sticky": True,
            "event_time": "2026-01-02T03:04:05.678Z",
            "local_only": False,
            "notification_priority": "PRIORITY_MAX",
            "default_sound": True,
            "default_vibrate_timings": False,
            "default_light_settings": False,
            "vibrate_timings": ["0.5s", "1s"],
            "visibility": "PRIVATE",
            "notification_count": 7,
            "light_settings": {
                "color": {"red": 1, "green": 0.5, "blue": 0, "alpha": 1},
                "light_on_duration": "0.1s",
                "light_off_duration": "1s",
            },
            "image": "https://x.example/i.png",
            "bypass_proxy_notification": False,
            "proxy": "DENY",
        },
    },
    "android_v2": _ANDROID | {"remote_notification": {"notification": {"title": "T"}}},
    "apns": {
        "headers": {"apns-expiration": "1", "apns-priority": "10"},
        "payload": {"aps": {"alert": {"title": "T"}, "badge": 1}, "own": [1, None, {"x": "y"}]},
        "fcm_options": {"analytics_label": "a", "image": "https://x.example/i.png"},
        "live_activity_token": "l",
    },
    "webpush": {
        "headers": {"TTL": "60", "Urgency": "high"},
        "data": {"c": "3"},
        "notification": {"title": "T", "actions": [{"action": "a", "title": "b"}], "silent": True},
        "fcm_options": {"link": "https://x.example/", "analytics_label": "a"},
    },
    "fcm_options": {"analytics_label": "a-b_c.d~%"},
}
"""All fields of a message to one token, but `background_sync`."""

SYNC: dict[str, Any] = {
    "token": "t",
    "android_v2": _ANDROID | {"background_sync": {"x": 1}},
    "validate_only": True,
}
"""`background_sync`, which takes the place of `remote_notification`, and `validate_only`."""
