"""`python -m benchmarks.timing`: whether the time of an answer tells who has an account.

Two addresses that have one and two that have none, interleaved at each door: two identical runs stand side by side.
"""

import statistics
import tempfile
import time
from pathlib import Path

from flask.testing import FlaskClient

from benchmarks import stage
from magicauth import create_app
from magicauth.extensions import db
from magicauth.models import User

DOORS = ("/auth", "/users/magic_link", "/auth/reset")
KNOWN, UNKNOWN = ("ada@example.org", "eve@example.org"), ("amy@example.org", "eva@example.org")
ROUNDS = 400
# Connections and caches are made in the first.
LEFT_OUT = 50


def main() -> None:
    """Prints a row for each door."""
    with tempfile.TemporaryDirectory() as name, stage.redis_server(Path(name)) as redis_url:
        many = "100000000 per hour"
        settings = {f"MAGICAUTH_LIMIT_MAILS_{kind}": many for kind in ("PER_ADDRESS", "PER_IP", "GLOBAL")}
        own = {"MAGICAUTH_MODE": "development", "REDIS_URL": redis_url, "MAGICAUTH_MAIL_WORKER": "external"}
        app = create_app(own | settings, instance_path=name)
        with app.app_context():
            db.session.add_all(User(canonical_email=email, email=email, name="Ada") for email in KNOWN)
            db.session.commit()
        print(f"{'':<20} {'with an account':<17} without")
        for door in DOORS:
            found = measure(app.test_client(use_cookies=False), door)
            with_one, without = ("  ".join(f"{found[email]:.3f}" for email in emails) for emails in (KNOWN, UNKNOWN))
            print(f"{door:<20} {with_one:<17} {without}")


def measure(client: FlaskClient, door: str) -> dict[str, float]:
    """Milliseconds of the middle answer, by address."""
    taken: dict[str, list[float]] = {email: [] for email in (*KNOWN, *UNKNOWN)}
    for _ in range(ROUNDS):
        for email, times in taken.items():
            started = time.perf_counter()
            answer = client.post(door, json={"email": email})
            times.append((time.perf_counter() - started) * 1000)
            if answer.status_code != 200:
                raise RuntimeError(answer.text)
    return {email: statistics.median(times[LEFT_OUT:]) for email, times in taken.items()}


if __name__ == "__main__":
    main()
