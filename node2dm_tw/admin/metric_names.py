"""How Prometheus calls each line of the stats, and one sentence on it; without the extra."""

from node2dm_tw.core.stats import TERMINAL_COUNTERS

ROUTE = {
    "messages_received": ("messages_received", "Valid pushes that came in."),
    "messages_taken_over": (
        "messages_taken_over",
        "Pushes that an earlier process left.",
    ),
    "messages_ambiguous": (
        "requests_ambiguous",
        "Requests without an answer that the upstream may have processed.",
    ),
    "network_failures": ("requests_failed", "Requests without an answer."),
    "unavailable_answers": (
        "answers_unavailable",
        "Answers that say that the service is unavailable, or that explain nothing.",
    ),
    "quota_answers": (
        "answers_over_quota",
        "Answers that say that the sender, its project, a device or a topic is over its quota.",
    ),
    "client_error_answers": (
        "answers_client_error",
        "Answers with a status of 4xx other than 429, which FCM counts as client errors.",
    ),
    "spool_damaged": (
        "spool_records_damaged",
        "Records of a spool or of queue.sqlite that could not be read.",
    ),
    "total_errors": (
        "errors",
        "Refused pushes, bad devices, quota answers and requests without an answer.",
    ),
    "handshakes": ("tls_handshakes", "Connections made to the upstream."),
    "reconnects": ("reconnects", "Requests that libcurl repeated by itself."),
    "messages_in_queue": (
        "queue_messages",
        "Pushes that wait, are in flight, or sleep until their next try.",
    ),
    "max_queued": ("queue_limit_messages", "Pushes that the queue can hold."),
    "queued_bytes": (
        "queue_bytes",
        "Bytes held by the pushes in the queue: their lines, and 350 for each.",
    ),
    "oldest_age": ("queue_oldest_age_seconds", "Age of the next push to be sent."),
    "messages_in_flight": ("messages_in_flight", "Pushes sent and not answered yet."),
    "messages_waiting": ("messages_asleep", "Pushes that sleep until their next try."),
    "window": ("window_requests", "Requests that may be in flight at once."),
    "backing_off": ("paused", "1 while the route is paused."),
    "pause_left": (
        "pause_left_seconds",
        "Seconds until the pause ends; 0 while there is none.",
    ),
    "bad_device_alarm": ("bad_device_alarm", "1 while callbacks are held back."),
    "project_rate_used": (
        "project_rate_used_ratio",
        "Share of project_rate that was used in the last minute; absent without project_rate.",
    ),
    "signed_in": ("signed_in", "1 while the route has a credential."),
    "token_age": ("credential_age_seconds", "Age of the credential; absent while signed out."),
    "token_left": (
        "credential_left_seconds",
        "Seconds until the credential expires; absent while signed out.",
    ),
    "rate_limited_tokens": (
        "devices_blocked",
        "Devices over their quota; pushes to them are dropped.",
    ),
}
"""For each line of a route: the name, without its prefix and `_total`, and a sentence."""

PROCESS = {
    "uptime": ("uptime_seconds", "Seconds since the process started."),
    "udp_dropped": (
        "udp_datagrams_dropped",
        "Datagrams that the kernel dropped because the receive buffer was full.",
    ),
    "rcvbuf": ("udp_receive_buffer_bytes", "Size of the receive buffer that the kernel granted."),
    "max_queued_bytes": ("queue_limit_bytes", "Bytes that all queues together can hold."),
    "callbacks_waiting": ("callbacks_waiting", "Callbacks that wait or are in flight."),
    "outcomes_dropped": (
        "outcome_records_dropped",
        "Records of ended pushes that could not be written to the file, and are lost.",
    ),
    "memory_rss": ("memory_resident_bytes", "Resident memory."),
    "memory_heapTotal": ("memory_heap_bytes", "Size of the C heap, including large blocks."),
    "memory_heapUsed": ("memory_heap_used_bytes", "Small blocks of the C heap that are in use."),
}
"""The same for the lines that only the totals have."""

LABELLED = {
    "messages_ended": (
        "outcome",
        "Pushes that ended, by outcome.",
        {name.removeprefix("messages_"): name for name in TERMINAL_COUNTERS},
    ),
    "callbacks": (
        "outcome",
        "Callbacks that ended, by outcome.",
        {outcome: f"callbacks_{outcome}" for outcome in ("sent", "failed", "dropped")},
    ),
}
"""Counters of a route that make one metric: its name, label, sentence, and label value to line."""

HISTOGRAMS = {
    "upstream_latency": ("upstream_latency_seconds", "Seconds from a request to its answer."),
    "queue_age": ("queue_age_seconds", "Age of a push when a request for it is sent."),
}

BY_OTHER_MEANS = {
    *(line for _, _, lines in LABELLED.values() for line in lines.values()),
    "messages_invalid",
    "http_client",
    "version",
    "state",
    "state_reason",
    "state_advice",
    "renewal_error",
    "logged_in_to_c2dm",
}
"""Lines shown with a label, as text, or by `signed_in`."""

REASONS = {
    "messages_invalid": (("reason",), "Lines that are not valid pushes."),
    "messages_refused": (("route", "reason"), "Pushes that the upstream rejected for good."),
}
"""Counters of the lines ``LINE.REASON``: their labels, and a sentence."""

OTHERS = {
    "build_info": (("version",), "This program."),
    "ready": ((), "1 while /readyz answers 200."),
    "route_state": (("route", "state"), "1 for the state that the route is in."),
}
"""Gauges that no line of the stats has in this form: their labels, and a sentence."""
