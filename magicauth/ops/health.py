"""`/healthz` and `/readyz`: whether this process answers, and whether what it depends on does."""

import logging
from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, jsonify
from sqlalchemy import text

from magicauth import outbox
from magicauth.errors import reason_of
from magicauth.extensions import db, is_not_understood, redis
from magicauth.migrating import tables_are_there
from magicauth.respond import AWAY

log = logging.getLogger("magicauth")

bp = Blueprint("health", __name__)


@bp.get("/healthz")
def healthz() -> Response:
    return jsonify(status="SUCCESS", message="OK")


@bp.get("/readyz")
def readyz() -> Response:
    checks = {"redis": _check(redis_answers), "database": _check(database_answers)}
    if checks["database"] == "ok":
        checks["database"] = _check(tables_are_there)
    ready = all(state == "ok" for state in checks.values())
    # Mail never makes it unready: letters wait in the queue while the mail server is away.
    checks["mail"] = _mail_state() if checks["redis"] == "ok" else "degraded"
    response = jsonify(status="SUCCESS" if ready else "FAIL", message="OK" if ready else "Not ready.", **checks)
    response.status_code = 200 if ready else 503
    if not ready:
        response.headers["Retry-After"] = "2"
    return response


def redis_answers() -> None:
    """Raises what Redis raises when it is away."""
    redis().ping()


def database_answers() -> None:
    """Raises what the database raises when it is away."""
    db.session.execute(text("SELECT 1"))


def _check(answers: Callable[[], Any]) -> str:
    try:
        answers()
    except AWAY as error:
        reason = reason_of(error)
        log.warning("not ready: %s", reason)
        db.session.rollback()
        return "not migrated" if is_not_understood(error) else "away"
    return "ok"


def _mail_state() -> str:
    try:
        return "degraded" if outbox.status().degraded else "ok"
    except AWAY:
        return "degraded"
