"""`python -m benchmarks.timing`: whether the time of an answer tells who has an account.

Every sort of account, and two addresses without one, interleaved at each door: what two identical runs differ by stands
beside what they are compared with.
"""

import statistics
import tempfile
import time
from pathlib import Path

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from benchmarks import stage
from benchmarks.growth import signed_in
from magicauth import create_app
from magicauth.extensions import db
from magicauth.models import User
from magicauth.passwords import hash_password

OWNER = "owner@example.org"
SORTS = {
    "with a password": "ada@example.org",
    "without one": "eve@example.org",
    "disabled": "bob@example.org",
    "nobody": "amy@example.org",
    "nobody else": "eva@example.org",
}
ROUNDS = 250
# Connections and caches are made in the first.
LEFT_OUT = 50
RESEND_AFTER = 1


def main() -> None:
    """Prints milliseconds of the middle answer: a row for each door, a column for each sort."""
    with tempfile.TemporaryDirectory() as name, stage.redis_server(Path(name)) as redis_url:
        app = _app(name, redis_url)
        print(f"{'':<20}" + "".join(f"{sort:>17}" for sort in SORTS))
        anybody, owner = app.test_client(use_cookies=False), signed_in(app, OWNER)
        for door in ("/auth", "/users/magic_link", "/auth/reset"):
            _print(door, [anybody] * len(SORTS) * ROUNDS)
        waiting = [_asked(app, email) for _ in range(ROUNDS) for email in SORTS.values()]
        time.sleep(RESEND_AFTER)
        _print("/verify/resend", waiting)
        _print("/account/email", [owner] * len(SORTS) * ROUNDS)


def _app(folder: str, redis_url: str) -> Flask:
    many = "100000000 per hour"
    app = create_app(
        {f"MAGICAUTH_LIMIT_MAILS_{kind}": many for kind in ("PER_ADDRESS", "PER_IP", "GLOBAL")}
        | {"MAGICAUTH_MODE": "development", "MAGICAUTH_MAIL_WORKER": "external", "MAGICAUTH_PASSWORDS": "optional"}
        | {"REDIS_URL": redis_url, "MAGICAUTH_RESEND_AFTER": str(RESEND_AFTER)},
        instance_path=folder,
    )
    with app.app_context():
        for email in (OWNER, *list(SORTS.values())[:3]):
            db.session.add(User(canonical_email=email, email=email, name="Ada", disabled=email == SORTS["disabled"]))
        db.session.flush()
        User.by_email(SORTS["with a password"]).password_hash = hash_password("any")  # type: ignore[union-attr]
        db.session.commit()
    return app


def _asked(app: Flask, email: str) -> FlaskClient:
    browser = app.test_client()
    _succeeds(browser.post("/auth", json={"email": email}))
    return browser


def _print(door: str, browsers: list[FlaskClient]) -> None:
    taken: dict[str, list[float]] = {email: [] for email in SORTS.values()}
    for number, browser in enumerate(browsers):
        email = list(taken)[number % len(taken)]
        started = time.perf_counter()
        answer = browser.post(door, json={"email": email})
        taken[email].append((time.perf_counter() - started) * 1000)
        _succeeds(answer)
    print(
        f"{door:<20}" + "".join(f"{statistics.median(times[LEFT_OUT:]):>17.3f}" for times in taken.values()), flush=True
    )


def _succeeds(answer: TestResponse) -> None:
    if answer.status_code != 200:
        raise RuntimeError(answer.text)


if __name__ == "__main__":
    main()
