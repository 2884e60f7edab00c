"""What grows with every account and sign-in is read by index: each question reads as few rows of many as it shows."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from instruments import change_user, delivering, quiet_app
from pages import EMAIL, JSON, sign_in, sign_up
from sqlalchemy import event

from magicauth.extensions import db

ROWS = 20_000
# A hundred events are shown unless more are asked for.
READ_MOST = 250
# A row a second until a day ago, with ids as of version 7. What is rare is old. The administrator's events are, too.
FILL = """
INSERT INTO users (id, canonical_email, email, name, is_admin, disabled, session_epoch, created_at, updated_at)
SELECT {id}, 'user' || n || '@example.org', 'User' || n || '@example.org', 'User', false, false, 1, {at}, {at}
FROM generate_series(1, {rows}) n;
INSERT INTO audit (id, at, action, result, user_id, subject, ip, browser)
SELECT {id}, {at}, CASE WHEN n < 4 THEN 'operator:user:promoted' ELSE 'user:signed_in' END,
  CASE WHEN n < 4 THEN 'too old' WHEN n % 10 = 0 THEN 'wrong password' ELSE 'ok' END,
  CASE WHEN n <= 2000 THEN '{user_id}'::uuid END, left(md5((n % 2000)::text), 22), '', ''
FROM generate_series(1, {rows}) n;
VACUUM ANALYZE users, audit"""


@pytest.fixture(scope="module")
def app(postgres, redis_url, tmp_path_factory) -> Iterator[Flask]:
    """An app with many accounts, one of them an administrator's, and many events."""
    folder = tmp_path_factory.mktemp("growth")
    name = folder.name
    with quiet_app(redis_url, folder, DATABASE_URL=postgres.make_database(name)) as app:
        with delivering(app):
            sign_up(app.test_client())
        change_user(app, EMAIL, is_admin=True)
        first = round((datetime.now(UTC) - timedelta(days=1, seconds=ROWS)).timestamp())
        moment = f"lpad(to_hex(({first} + n) * 1000::bigint), 12, '0')"
        columns = {
            "id": f"({moment} || '70008000' || lpad(to_hex(n), 12, '0'))::uuid",
            "at": f"to_timestamp({first} + n)",
        }
        user_id = postgres.rows(name, "SELECT id FROM users")[0][0]
        with postgres.connect(name) as connection:
            for statement in FILL.format(rows=ROWS, user_id=user_id, **columns).split(";"):
                connection.execute(statement)
        yield app


def test_pages_of_users_and_of_activity_read_no_more_rows_than_they_show(app):
    browser = app.test_client()
    with delivering(app):
        sign_in(browser)
    for path in ("/users", "/account/activity"):
        for _ in range(3):
            plans = explained(app, lambda path=path: browser.get(path, headers=JSON))
            assert all(rows_read(plan) <= READ_MOST for plan in plans), (path, plans)
            path = browser.get(path, headers=JSON).get_json()["next"]


def test_an_account_and_its_events_are_found_among_many_when_it_is_deleted(app):
    change = ("users", "delete", "user77@example.org", "--yes")
    assert_few_rows_are_read(app, *change)


@pytest.mark.parametrize(
    "filters",
    [
        (),
        ("--user", EMAIL),
        ("--user", "user500@example.org"),
        ("--user", "nobody@example.org"),
        ("--action", "user:signed_in"),
        ("--action", "operator:user:promoted"),
        ("--action", "user:deleted", "--user", EMAIL, "--since", "2020-01-01"),
        ("--result", "ok"),
        ("--result", "wrong password"),
        ("--result", "too old"),
        ("--result", "never seen"),
        ("--since", "2020-01-01"),
        ("--since", "2999-01-01"),
    ],
    ids=" ".join,
)
def test_the_audit_is_read_by_index_whatever_it_is_asked_for(app, filters):
    assert_few_rows_are_read(app, "audit", *filters)


def assert_few_rows_are_read(app: Flask, *command: str) -> None:
    def run() -> None:
        done = app.test_cli_runner().invoke(args=command)
        assert done.exit_code == ("nobody@example.org" in command), done.output

    plans = explained(app, run)
    assert plans
    assert all(rows_read(plan) <= READ_MOST for plan in plans), plans


def explained(app: Flask, act: Callable[[], Any]) -> list[dict[str, Any]]:
    """What PostgreSQL does for each statement that the app sends inside `act` to find rows."""
    sent: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith(("SELECT", "UPDATE", "DELETE")):
            sent.append((statement, parameters))

    with app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        act()
    finally:
        event.remove(engine, "before_cursor_execute", note)
    with engine.connect() as connection:
        found = [
            connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters).scalar_one()[0][
                "Plan"
            ]
            for statement, parameters in sent
        ]
        connection.rollback()
    return found


def rows_read(plan: dict[str, Any]) -> int:
    """The most that a step of the plan goes through."""
    here = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
    return max([here * plan["Actual Loops"], *(rows_read(step) for step in plan.get("Plans", []))])
