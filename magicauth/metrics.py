"""What is counted, for `/metrics`. With PROMETHEUS_MULTIPROC_DIR set, as gunicorn.conf.py does, over all workers."""

from prometheus_client import Counter, Histogram

REQUESTS = Counter("magicauth_requests", "Requests by route and status.", ["route", "status"])
SECONDS = Histogram(
    "magicauth_request_seconds",
    "Seconds a request took.",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
EVENTS = Counter("magicauth_events", "What happened to accounts, by action and result.", ["action", "result"])
LIMITS_HIT = Counter("magicauth_limits_hit", "Requests refused for a spent budget.", ["kind"])
LINKS_LOOKED_AT = Counter(
    "magicauth_links_looked_at", "Links fetched, by the browser that asked for them or by others: scanners.", ["by"]
)
LETTER_TO_USE = Histogram(
    "magicauth_letter_to_use_seconds",
    "Seconds from asking for a letter to using it.",
    buckets=(5, 10, 20, 30, 45, 60, 90, 120, 300, 600, 3600),
)
