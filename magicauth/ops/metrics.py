"""`/metrics`: Prometheus text, for whoever holds MAGICAUTH_METRICS_TOKEN; without it there is no such page."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

from flask import Blueprint, Flask, Response, abort, current_app, g, request
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from magicauth import limits, metrics, outbox
from magicauth.crypto import equal
from magicauth.errors import N_, Incorrect
from magicauth.ops.health import database_answers, redis_answers
from magicauth.respond import AWAY, refused

bp = Blueprint("metrics", __name__)


def init_app(app: Flask) -> None:
    """Counts requests, where there is somebody to read it."""
    if not app.config["MAGICAUTH_METRICS_TOKEN"]:
        return
    # A rate begins at nought. And where a worker counts is opened now, not when something may have emptied /tmp.
    for kind in get_args(limits.Kind):
        metrics.LIMITS_HIT.labels(kind)

    @app.before_request
    def start() -> None:
        g._magicauth_started = time.perf_counter()

    @app.after_request
    def count(response: Response) -> Response:
        # By rule, not by path: a scanner of paths must not fill the memory with names of its own.
        route = request.url_rule.rule if request.url_rule else "none"
        metrics.REQUESTS.labels(route, response.status_code).inc()
        metrics.SECONDS.labels(route).observe(time.perf_counter() - g.get("_magicauth_started", time.perf_counter()))
        return response


@bp.get("/metrics")
def show() -> Response:
    token = current_app.config["MAGICAUTH_METRICS_TOKEN"]
    if not token:
        abort(404)
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not equal(given.strip(), token):
        refusal = Incorrect(N_("Bearer token required."), reason="metrics token missing or wrong")
        response = refused(refusal)
        response.headers["WWW-Authenticate"] = "Bearer"
        return response
    registry = REGISTRY
    # Where the folder is gone, this process tells what it has counted itself.
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder and Path(folder).is_dir():
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    now = CollectorRegistry()
    now.register(_Now())
    return Response(generate_latest(registry) + generate_latest(now), content_type=CONTENT_TYPE_LATEST)


class _Now:
    """What is true at this moment, asked when it is read."""

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("magicauth_up", "Whether a dependency answers.", labels=["dependency"])
        seconds = GaugeMetricFamily("magicauth_ping_seconds", "Seconds its answer took.", labels=["dependency"])
        answers: dict[str, bool] = {}
        for name, ask in (("redis", redis_answers), ("database", database_answers)):
            took = _timed(ask)
            up.add_metric([name], 0 if took is None else 1)
            if took is not None:
                seconds.add_metric([name], took)
            answers[name] = took is not None
        yield up
        yield seconds
        if answers["redis"]:
            # Who has waited for one that hangs does not wait for it again.
            yield from _letters()

    def describe(self) -> list[Metric]:
        return []


def _timed(ask: Callable[[], object]) -> float | None:
    started = time.perf_counter()
    try:
        ask()
    except AWAY:
        return None
    return time.perf_counter() - started


def _letters() -> Iterator[Metric]:
    try:
        status, counts = outbox.status(), outbox.counts()
    except AWAY:
        return
    waiting = GaugeMetricFamily("magicauth_letters_in_queue", "Letters by state.", labels=["state"])
    for state, count in (("waiting", status.waiting), ("retrying", status.retrying), ("given_up", status.dead)):
        waiting.add_metric([state], count)
    yield waiting
    yield GaugeMetricFamily("magicauth_oldest_letter_seconds", "Age of the oldest waiting letter.", value=status.oldest)
    became = CounterMetricFamily("magicauth_letters", "Letters by what became of them.", labels=["letter", "state"])
    for labels, count in sorted(counts.items()):
        became.add_metric(labels, count)
    yield became
