"""The counters, histograms and gauges of a process. Names and labels are a promise: dashboards and alerts hang on them.

Labels have few values, all of our own making: never a server's name, a room, a user, a path. Whatever others can choose
is mapped to a known value or to "other" before it comes here, or one peer could fill the memory of everybody's
Prometheus. One `inc` takes about 2 us, one `observe` twice that: they stand in places that are passed once per request,
append or delivery, never per event.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from linmatrix.metrics.folder import shared_folder, tidy

# Before the first instrument opens its file there.
if _folder := shared_folder():
    tidy(_folder, starting=True)

REGISTRY = CollectorRegistry()
"""Of this process alone; `linmatrix.metrics.exposition` knows the sum of all."""

_REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_DATABASE_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)

requests = Counter(
    "linmatrix_requests",
    "Requests answered. errcode is empty for answers without one; endpoint bridge: refused before it was routed.",
    ["endpoint", "status", "errcode"],
    registry=REGISTRY,
)
request_seconds = Histogram(
    "linmatrix_request_seconds",
    "Time to answer a request, from when a thread took it.",
    ["endpoint"],
    buckets=_REQUEST_SECONDS,
    registry=REGISTRY,
)
events = Counter(
    "linmatrix_events",
    "Events by what became of them. accepted, redacted, soft-failed, rejected: in the line; refused: the hub said no;"
    " known: was there already; dropped: malformed or wrongly signed.",
    ["role", "verdict"],
    registry=REGISTRY,
)
edus = Counter(
    "linmatrix_edus",
    "EDUs that came in, to-device messages one by one, by what became of them. accepted; known: was there already;"
    " ignored: of another type; all others were dropped: malformed, spoofed: of another server's user, unknown_device,"
    " no_shared_room, inbox_full. type is other for those that this server has no use for.",
    ["type", "outcome"],
    registry=REGISTRY,
)
append_seconds = Histogram(
    "linmatrix_append_seconds",
    "Time that a room's row was locked for an append, its commit included.",
    buckets=_DATABASE_SECONDS,
    registry=REGISTRY,
)
lock_wait_seconds = Histogram(
    "linmatrix_append_wait_seconds",
    "Time that an append waited. process: for another one of this process in the same room, where it had to; row: for"
    " the row's lock, one round trip to the database included.",
    ["what"],
    buckets=_DATABASE_SECONDS,
    registry=REGISTRY,
)
deliveries = Counter(
    "linmatrix_deliveries",
    "Attempts to send a transaction. delivered; failed: is sent again; isolated: split or set aside; superseded:"
    " another worker had taken over.",
    ["outcome"],
    registry=REGISTRY,
)
delivered_events = Counter(
    "linmatrix_delivered_events",
    "PDUs and LPDUs in transactions that were acknowledged.",
    registry=REGISTRY,
)
delivery_seconds = Histogram(
    "linmatrix_delivery_seconds",
    "Time of an attempt to send a transaction, from the request to what is stored of its end.",
    ["outcome"],
    buckets=_REQUEST_SECONDS,
    registry=REGISTRY,
)
key_fetches = Counter(
    "linmatrix_key_fetches",
    "Servers that were asked for their keys. answered, or failed: no usable answer.",
    ["outcome"],
    registry=REGISTRY,
)
claimed_keys = Counter(
    "linmatrix_claimed_keys",
    "Devices' keys that were claimed. once: given away; reusable: a last-resort or fallback key; none: there was no key"
    " to give.",
    ["kind"],
    registry=REGISTRY,
)
findings = Counter(
    "linmatrix_findings",
    "Findings about hubs, as they were recorded.",
    ["kind"],
    registry=REGISTRY,
)
threads_busy = Gauge(
    "linmatrix_threads_busy",
    "Threads at work: web, on a request; worker, on a task.",
    ["kind"],
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
threads = Gauge(
    "linmatrix_threads",
    "Threads that there are for it.",
    ["kind"],
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
database_connections = Gauge(
    "linmatrix_database_connections",
    "Connections of the processes' pools: used, idle, and the most that there may be.",
    ["state"],
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
database_waiting = Gauge(
    "linmatrix_database_waiting_threads",
    "Threads that wait for a connection of their pool.",
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
