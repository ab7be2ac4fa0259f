"""Who is compared."""

from benchmarks.gateway import Setup

CURL1 = "curl, HTTP/1.1"
CURL2 = "curl, HTTP/2"
FCM2 = "FCM, curl, HTTP/2"
TREQ = "treq, HTTP/1.1"
H2LOAD1 = "h2load, HTTP/1.1"
H2LOAD2 = "h2load, HTTP/2"
NODE2DM = "node2dm, HTTP/1.1"

SETUPS = {
    CURL1: Setup(),
    CURL2: Setup(http2=True),
    FCM2: Setup(service="fcm", http2=True),
    TREQ: Setup(client="treq"),
}
"""The gateways, by name."""

LIMITS = {CURL1: H2LOAD1, CURL2: H2LOAD2, FCM2: H2LOAD2, TREQ: H2LOAD1, NODE2DM: H2LOAD1}
"""The C client to which each is compared."""
