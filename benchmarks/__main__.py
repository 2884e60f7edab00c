"""`python -m benchmarks [--seconds N] [--json FILE]`: all contestants, interleaved, in one run."""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import redis
from flask import Flask

from benchmarks import load, stage
from magicauth import create_app, guards
from magicauth.extensions import db
from magicauth.models import User
from magicauth.models.user import new_id
from magicauth.passwords import hash_password

PASSWORD = "an unusual sentence to type"
ROUNDS = 3
PEOPLE = 64


def main() -> None:
    """Prints a table, and writes JSON if asked."""
    arguments = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    arguments.add_argument("--seconds", type=float, default=5.0, help="for each measurement (5)")
    arguments.add_argument("--json", type=Path, help="file for the figures")
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        results = measure(Path(name), asked.seconds)
    _print(results)
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=2) + "\n")


def measure(folder: Path, seconds: float) -> dict[str, Any]:
    """Every figure, by name."""
    with stage.redis_server(folder) as redis_url, stage.mail_server(folder, redis_url) as mail_port:
        env = _environment(folder, redis_url, mail_port)
        app = create_app(env, instance_path=str(folder))
        cookie, facts, people = _sign_somebody_in(app)
        results: dict[str, Any] = {}
        results |= _pages(folder, env, cookie, facts, seconds)
        results |= _sign_ins(folder, env, redis_url, people, seconds)
        results |= _bytes(app, cookie)
        return results


def _pages(folder: Path, env: dict[str, str], cookie: str, facts: str, seconds: float) -> dict[str, Any]:
    rates: dict[str, list[load.Rate]] = {}
    started: dict[str, float] = {}
    memory: dict[str, int] = {}
    # Interleaved, so that whatever else the machine does falls on all of them.
    for _ in range(ROUNDS):
        for name in ("bare", "flask_session", "magicauth"):
            before = time.monotonic()
            with stage.gunicorn(name, folder, env) as address:
                started.setdefault(name, time.monotonic() - before)
                mine = _flask_session_cookie(address, facts) if name == "flask_session" else cookie
                load.pages(address, "/home", mine, 1)
                rates.setdefault(f"guarded page: {name}", []).append(load.pages(address, "/home", mine, seconds))
                if name != "flask_session":
                    rates.setdefault(f"sign-in page: {name}", []).append(load.pages(address, "/auth", "", seconds))
                memory[name] = _largest_worker(address)
    figures: dict[str, Any] = {
        name: {
            "per_second": round(max(rate.per_second for rate in found)),
            "p99_ms": round(min(rate.p99_ms for rate in found), 2),
        }
        for name, found in rates.items()
    }
    for kind in ("guarded page", "sign-in page"):
        limit = figures[f"{kind}: bare"]["per_second"]
        figures[f"{kind}: of the limit"] = round(figures[f"{kind}: magicauth"]["per_second"] / limit, 2)
    figures["guarded page: flask_session of the limit"] = round(
        figures["guarded page: flask_session"]["per_second"] / figures["guarded page: bare"]["per_second"], 2
    )
    figures["seconds to the first connection"] = {name: round(value, 2) for name, value in started.items()}
    figures["MB of a worker"] = {name: round(value / 1e6) for name, value in memory.items()}
    return figures


def _sign_ins(
    folder: Path, env: dict[str, str], redis_url: str, people: dict[str, list[str]], seconds: float
) -> dict[str, Any]:
    figures = {}
    with stage.gunicorn("magicauth", folder, env) as address:
        for kind, password in (("without", ""), ("with", PASSWORD)):
            load.sign_ins(address, redis_url, people[kind], password, 1)
            rate = load.sign_ins(address, redis_url, people[kind], password, seconds)
            figures[f"sign-ins {kind} a password"] = {
                "per_second": round(rate.per_second, 1),
                "p99_ms": round(rate.p99_ms, 1),
            }
    return figures


def _bytes(app: Flask, cookie: str) -> dict[str, Any]:
    client = redis.Redis.from_url(app.config["REDIS_URL"])
    usage = {
        kind: max(client.memory_usage(key) or 0 for key in client.scan_iter(f"magicauth:{kind}:*", 1000))
        for kind in ("session", "challenge")
        if any(client.scan_iter(f"magicauth:{kind}:*", 1000))
    }
    return {"bytes of Redis": usage}


def _environment(folder: Path, redis_url: str, mail_port: int) -> dict[str, str]:
    many = "100000000 per hour"
    return {
        "MAGICAUTH_MODE": "production",
        "SECRET_KEY": "a benchmark's key, which protects nothing at all",
        "PUBLIC_URL": "http://127.0.0.1",
        "DATABASE_URL": f"sqlite:///{folder / 'bench.sqlite3'}",
        "REDIS_URL": redis_url,
        "MAIL_SERVER": "127.0.0.1",
        "MAIL_PORT": str(mail_port),
        "MAGICAUTH_LIMIT_MAILS_PER_IP": many,
        "MAGICAUTH_LIMIT_MAILS_GLOBAL": many,
    }


def _sign_somebody_in(app: Flask) -> tuple[str, str, dict[str, list[str]]]:
    people: dict[str, list[str]] = {"with": [], "without": []}
    with app.app_context():
        User.metadata.create_all(db.engine)
        hashed = hash_password(PASSWORD)
        for number in range(PEOPLE):
            for kind, password_hash in (("with", hashed), ("without", None)):
                email = f"{kind}{number}@example.org"
                people[kind].append(email)
                db.session.add(
                    User(id=new_id(), canonical_email=email, email=email, name="Ada", password_hash=password_hash)
                )
        db.session.commit()
    with app.test_request_context("/"):
        guards.start_session(User.by_email("without0@example.org"), ["email"])  # type: ignore[arg-type]
        facts = json.dumps(guards.this_session().data)
        response = app.process_response(app.make_response(""))
    cookies = [one.split(";")[0] for one in response.headers.getlist("Set-Cookie")]
    return next(one for one in cookies if one.startswith("magicauth=")), facts.encode().hex(), people


def _flask_session_cookie(address: str, facts: str) -> str:
    import http.client

    client = http.client.HTTPConnection(address)
    client.request("GET", f"/sign-in/{facts}")
    return client.getresponse().headers["Set-Cookie"].split(";")[0]


def _largest_worker(address: str) -> int:
    port = int(address.rpartition(":")[2])
    owners = {c.pid for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port and c.status == "LISTEN"}
    return max(psutil.Process(pid).memory_info().rss for pid in owners if pid)


def _print(results: dict[str, Any]) -> None:
    print(f"Python {sys.version.split()[0]}, gunicorn gthread, one worker of four threads on one core")
    for name, value in results.items():
        shown = "  ".join(f"{key} {figure}" for key, figure in value.items()) if isinstance(value, dict) else value
        print(f"  {name:<42} {shown}")


if __name__ == "__main__":
    main()
