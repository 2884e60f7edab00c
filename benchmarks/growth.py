"""`python -m benchmarks.growth [--users N] [--events N]`: what each query costs as PostgreSQL fills.

The statements are those that the app sends: they are caught on their way to the database, and explained there.
"""

import argparse
import base64
import json
import tempfile
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import NullPool, create_engine, event, text

from benchmarks import stage
from magicauth import create_app, guards
from magicauth.extensions import db
from magicauth.models import User

# An administrator, at whose address somebody has guessed for long: one event in a hundred is about it.
ADMIN = "user1@example.org"
# Milliseconds since 1970; row n is from n seconds later. Ids ascend with them, as those of version 7 do.
_FIRST = 1_700_000_000_000
_ID = f"(lpad(to_hex({_FIRST} + ({{n}}) * bigint '1000'), 12, '0') || '70008000' || lpad(to_hex({{n}}), 12, '0'))::uuid"
_OF_USER = "CASE WHEN n % 100 = 0 THEN 1 ELSE 1 + n * bigint '7919' % :users END"
_FILL = {
    "users": f"""
INSERT INTO users
  (id, canonical_email, email, name, password_hash, is_admin, disabled, session_epoch, created_at, updated_at)
SELECT {_ID.format(n="n")}, 'user' || n || '@example.org', 'User' || n || '@example.org', 'User ' || n,
  '$argon2id$v=19$m=19456,t=2,p=1$' || left(md5(n::text), 22) || '$' || left(repeat(md5(n::text), 2), 43),
  n = 1, false, 1, to_timestamp({_FIRST // 1000} + n), to_timestamp({_FIRST // 1000} + n)
FROM generate_series(:users_before + 1, :users) n""",
    # Most actions are a few; of the rarest there are the oldest ones only.
    "audit": f"""
INSERT INTO audit (id, at, action, result, user_id, subject, ip, browser)
SELECT {_ID.format(n="n")}, to_timestamp({_FIRST // 1000} + n),
  CASE WHEN n <= 3 THEN 'operator:user:promoted' WHEN n % 20 = 0 THEN 'user:sign_in:refused'
    WHEN n % 2 = 0 THEN 'user:signed_in' ELSE 'user:signed_out' END,
  CASE WHEN n <= 3 THEN 'too old' WHEN n % 20 = 0 THEN 'wrong password' ELSE 'ok' END,
  {_ID.format(n=_OF_USER)}, left(md5(({_OF_USER})::text), 22), '198.51.100.7', 'Firefox on Linux'
FROM generate_series(:events_before + 1, :events) n""",
}


def main() -> None:
    """Prints a table."""
    arguments = argparse.ArgumentParser(prog="benchmarks.growth", description=__doc__)
    arguments.add_argument("--users", type=int, default=1_000_000)
    arguments.add_argument("--events", type=int, default=10_000_000)
    arguments.add_argument("--plans", action="store_true", help="prints each plan")
    asked = arguments.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        stage.redis_server(Path(folder)) as redis_url,
        stage.postgres() as database_url,
    ):
        app = _app(folder, redis_url, database_url)
        few = {"users": asked.users // 100, "events": asked.events // 100}
        fill(database_url, few | {"users_before": 0, "events_before": 0})
        small = measure(app)
        many = {"users": asked.users, "events": asked.events}
        fill(database_url, many | {f"{name}_before": rows for name, rows in few.items()})
        large, sizes = measure(app), _bytes_of_a_row(app)
    print(
        f"milliseconds in PostgreSQL with {asked.users} users and {asked.events} events, and with a hundredth of each"
    )
    for name, plan in large.items():
        shown = f"{plan['Execution Time']:>8.2f} {small[name]['Execution Time']:>8.2f}"
        print(f"  {name:<42} {shown}  {', '.join(steps(plan['Plan']))}")
        if asked.plans:
            print(json.dumps(plan, indent=1))
    print("bytes of a row with its indexes:", *(f"{table} {size}" for table, size in sizes.items()))


def fill(database_url: str, rows: dict[str, int]) -> None:
    """Brings the tables to so many `rows`. The audit's indexes are made anew when its rows are in."""
    # Not by the app's own connections, which wait for no answer as long as this takes.
    engine = create_engine(database_url, poolclass=NullPool)
    with engine.begin() as connection:
        indexes = connection.execute(
            text("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'audit' AND indexname <> 'audit_pkey'")
        ).all()
        for name, _ in indexes:
            connection.execute(text(f"DROP INDEX {name}"))
        for statement in _FILL.values():
            connection.execute(text(statement), rows)
        for _, definition in indexes:
            connection.execute(text(definition))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE users, audit"))


def measure(app: Flask) -> dict[str, dict[str, Any]]:
    """The plan of the slowest statement that each question sends, when what it reads is in memory."""
    return {name: max(_plans(app, ask), key=lambda plan: plan["Execution Time"]) for name, ask in _questions(app)}


def steps(plan: dict[str, Any]) -> list[str]:
    """What a plan does, as PostgreSQL names it, the top first."""
    below = [step for part in plan.get("Plans", []) for step in steps(part)]
    return [" on ".join(filter(None, (plan["Node Type"], plan.get("Index Name")))), *below]


def _questions(app: Flask) -> Iterator[tuple[str, Callable[[], Any]]]:
    with app.app_context():
        count = db.session.scalar(text("SELECT count(*) FROM users"))
        newest = db.session.scalar(text("SELECT max(at) FROM audit WHERE at < '2025-01-01'"))
    browser = signed_in(app, ADMIN)

    def get(path: str) -> Callable[[], Any]:
        return lambda: browser.get(path, headers={"Accept": "application/json"})

    def flask(*arguments: str) -> Callable[[], Any]:
        return lambda: app.test_cli_runner().invoke(args=arguments)

    for place, number in (("first", 0), ("middle", count // 2), ("last", count - 100)):
        cursor = base64.urlsafe_b64encode(_id(number).bytes).decode().rstrip("=")
        yield f"/users, {place} page", get(f"/users?after={cursor}")
    older = get("/account/activity")().json["next"]
    yield "/account/activity", get("/account/activity")
    yield "/account/activity, second page", get(older)
    yield "flask users show", flask("users", "show", ADMIN)
    yield "flask audit", flask("audit")
    yield "flask audit --user, of few events", flask("audit", "--user", "user500@example.org")
    yield "flask audit --user, of many events", flask("audit", "--user", ADMIN)
    yield "flask audit --user, a stranger", flask("audit", "--user", "nobody@example.org")
    yield "flask audit --action, frequent", flask("audit", "--action", "user:signed_in")
    yield "flask audit --action, rare and old", flask("audit", "--action", "operator:user:promoted")
    yield "flask audit --result, frequent", flask("audit", "--result", "wrong password")
    yield "flask audit --result, rare and old", flask("audit", "--result", "too old")
    yield "flask audit --since, a day", flask("audit", "--since", f"{newest - timedelta(days=1):%Y-%m-%d %H:%M:%S}")
    yield "flask audit --since, just now", flask("audit", "--since", f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}")
    yield "flask users delete", flask("users", "delete", f"user{count // 3}@example.org", "--yes")


def _plans(app: Flask, ask: Callable[[], Any]) -> list[dict[str, Any]]:
    with app.app_context():
        engine = db.engine
    sent: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith(("SELECT", "UPDATE", "DELETE")):
            sent.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    try:
        answer = ask()
    finally:
        event.remove(engine, "before_cursor_execute", note)
    if getattr(answer, "exit_code", 0) or getattr(answer, "status_code", 200) != 200:
        raise RuntimeError(f"{sent}: {getattr(answer, 'output', answer)}")
    found = []
    with engine.connect() as connection:
        for statement, parameters in sent:
            for _ in range(2):
                explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
                plan = connection.exec_driver_sql(explain, parameters).scalar_one()[0]
            found.append(plan)
        connection.rollback()
    return found


def _id(number: int) -> uuid.UUID:
    return uuid.UUID(f"{_FIRST + number * 1000:012x}70008000{number:012x}")


def signed_in(app: Flask, email: str) -> FlaskClient:
    """A browser of somebody, past the pages."""
    browser = app.test_client()
    with app.test_request_context("/"):
        guards.start_session(User.by_email(email), ["email"])  # type: ignore[arg-type]
        response = app.process_response(app.make_response(""))
    for cookie in response.headers.getlist("Set-Cookie"):
        name, _, value = cookie.partition(";")[0].partition("=")
        browser.set_cookie(name, value)
    return browser


def _bytes_of_a_row(app: Flask) -> dict[str, int]:
    with app.app_context():
        return {
            table: db.session.scalar(text(f"SELECT pg_total_relation_size('{table}') / count(*) FROM {table}"))
            for table in ("users", "audit")
        }


def _app(folder: str, redis_url: str, database_url: str) -> Flask:
    settings = {
        "MAGICAUTH_MODE": "production",
        "SECRET_KEY": "a benchmark's key, which protects nothing at all",
        "PUBLIC_URL": "http://localhost",
        "REDIS_URL": redis_url,
        "DATABASE_URL": database_url,
        "MAIL_SERVER": "127.0.0.1",
        "MAGICAUTH_MAIL_WORKER": "external",
    }
    app = create_app(settings, instance_path=folder)
    upgraded = app.test_cli_runner().invoke(args=["db", "upgrade"])
    if upgraded.exit_code:
        raise RuntimeError(upgraded.output)
    return app


if __name__ == "__main__":
    main()
