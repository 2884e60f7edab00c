"""`/healthz`, `/readyz` and `/metrics`: what machines ask, and that asking costs and reveals nothing."""

import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from conftest import wait_for
from instruments import later, quiet_app, redis_commands, sql_statements
from pages import EMAIL, JSON
from production import SETTINGS, PublicBrowser

TOKEN = "the bearer token of the tests"


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine that refuses connections."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_a_process_that_answers_is_healthy_and_asks_nobody(redis, redis_url, tmp_path):
    with quiet_app(redis_url, tmp_path) as app, redis_commands(redis) as sent, sql_statements(app) as statements:
        answer = app.test_client().get("/healthz")
    assert (answer.status_code, answer.get_json()) == (200, {"status": "SUCCESS", "message": "OK"})
    assert (sent, statements) == ([], [])


def test_ready_names_what_it_depends_on(client):
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert answer.get_json() == {
        "status": "SUCCESS",
        "message": "OK",
        "redis": "ok",
        "database": "ok",
        "mail": "ok",
    }


def test_without_redis_it_is_healthy_and_not_ready(closed_port, tmp_path):
    with quiet_app(f"redis://127.0.0.1:{closed_port}", tmp_path) as app:
        assert app.test_client().get("/healthz").status_code == 200
        answer = app.test_client().get("/readyz")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert (answer.get_json()["status"], answer.get_json()["redis"]) == ("FAIL", "away")
    assert answer.get_json()["database"] == "ok"
    assert str(closed_port) not in answer.text


def test_a_database_that_was_not_migrated_makes_it_unready(redis, redis_url, tmp_path):
    with quiet_app(redis_url, tmp_path, **SETTINGS, DATABASE_URL=f"sqlite:///{tmp_path / 'new.sqlite3'}") as app:
        app.test_client_class = PublicBrowser
        client = app.test_client()
        answer = client.get("/readyz")
        assert (answer.status_code, answer.get_json()["database"]) == (503, "not migrated")
        assert client.post("/auth", json={"email": EMAIL}).status_code == 503
        assert app.test_cli_runner().invoke(args=["db", "upgrade"]).exit_code == 0
        assert client.get("/readyz").get_json()["database"] == "ok"
        with closing(sqlite3.connect(tmp_path / "new.sqlite3")) as older, older:
            older.execute("ALTER TABLE users DROP COLUMN language")
        assert client.get("/readyz").get_json()["database"] == "not migrated"


@pytest.mark.parametrize("damaged_from", [0, 4096])
def test_a_database_that_is_damaged_is_away(redis, redis_url, tmp_path, damaged_from):
    file = tmp_path / "damaged.sqlite3"
    with quiet_app(redis_url, tmp_path, **SETTINGS, DATABASE_URL=f"sqlite:///{file}") as app:
        app.test_client_class = PublicBrowser
        assert app.test_cli_runner().invoke(args=["db", "upgrade"]).exit_code == 0
    with file.open("r+b") as written:
        written.seek(damaged_from)
        written.write(b"\xff" * (file.stat().st_size - damaged_from))
    with quiet_app(redis_url, tmp_path, **SETTINGS, DATABASE_URL=f"sqlite:///{file}") as app:
        app.test_client_class = PublicBrowser
        client = app.test_client()
        if damaged_from == 0:
            answer = client.get("/readyz")
            assert (answer.status_code, answer.get_json()["database"]) == (503, "away")
        assert client.post("/auth", json={"email": EMAIL}).status_code == 503
        listed = app.test_cli_runner().invoke(args=["users", "list"])
        assert (listed.exit_code, listed.stdout) == (1, "") and listed.stderr.startswith("Error: ")
        assert "wrong    database: does not answer" in app.test_cli_runner().invoke(args=["doctor"]).stdout


def test_without_the_database_it_is_healthy_and_not_ready(redis, redis_url, tmp_path):
    nowhere = f"sqlite:///{tmp_path / 'nowhere' / 'x.sqlite3'}"
    with quiet_app(redis_url, tmp_path, **SETTINGS, DATABASE_URL=nowhere) as app:
        app.test_client_class = PublicBrowser
        client = app.test_client()
        assert client.get("/healthz").status_code == 200
        answer = client.get("/readyz")
        assert client.post("/auth", json={"email": EMAIL}).status_code == 503
        assert client.get("/auth").status_code == 200
    assert answer.status_code == 503
    assert (answer.get_json()["redis"], answer.get_json()["database"]) == ("ok", "away")
    assert "nowhere" not in answer.text


def test_a_letter_that_is_older_than_a_minute_degrades_the_mail_and_nothing_else(redis, redis_url, tmp_path):
    with quiet_app(redis_url, tmp_path) as app:
        client = app.test_client()
        client.post("/users/magic_link", data={"email": EMAIL})
        assert client.get("/readyz").get_json()["mail"] == "ok"
        with later(redis, 61):
            answer = client.get("/readyz")
    assert (answer.status_code, answer.get_json()["mail"]) == (200, "degraded")


def test_a_mail_server_that_is_away_degrades_the_mail_and_nothing_else(make_app, closed_port):
    client = make_app(MAIL_SERVER="127.0.0.1", MAIL_PORT=closed_port).test_client()
    assert client.get("/readyz").get_json()["mail"] == "ok"
    client.post("/users/magic_link", data={"email": EMAIL})
    answer = wait_for(lambda: (found := client.get("/readyz")).get_json()["mail"] == "degraded" and found)
    assert (answer.status_code, answer.get_json()["status"]) == (200, "SUCCESS")


def test_nobody_who_asks_gets_a_cookie(client):
    for path in ("/healthz", "/readyz"):
        assert not client.get(path).headers.getlist("Set-Cookie")
        assert client.get(path, headers={"Accept": "text/html"}).is_json


def test_without_a_token_there_are_no_metrics(client):
    for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer None"}):
        assert client.get("/metrics", headers=headers).status_code == 404
        assert client.get("/metrics", headers=headers | JSON).status_code == 404


def test_metrics_want_the_bearer_token(make_app):
    client = make_app(MAGICAUTH_METRICS_TOKEN=TOKEN).test_client()
    for given in (
        None,
        "",
        TOKEN,
        f"Basic {TOKEN}",
        "Bearer",
        "Bearer x",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        "Bearer \xff",
    ):
        headers = {"Authorization": given} if given is not None else {}
        answer = client.get("/metrics", headers=headers | JSON)
        assert (answer.status_code, answer.get_json()["status"]) == (401, "FAIL"), given
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    answer = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}", "Host": "10.0.0.7:8000"})
    assert (answer.status_code, answer.mimetype) == (200, "text/plain")
    assert 'magicauth_up{dependency="redis"} 1.0' in answer.text
    assert TOKEN not in answer.text
