"""PostgreSQL and SQLite that are stopped, hung, cut, read-only, locked or full, under gunicorn in production mode."""

import contextlib
import logging
import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pages
import psycopg
import pytest
from conftest import wait_for
from flask.testing import FlaskClient
from instruments import at_once, delivering, later, quiet_app
from pages import JSON, PASSWORD, Letters
from production import SETTINGS, PublicBrowser
from servers import PATIENCE, Postgres, Site, ask_to_sign_in, name_at_home, no_file_grows_over, sign_up, site
from sqlalchemy import create_engine

from magicauth import outbox
from magicauth.extensions import Base

pytestmark = pytest.mark.faults

DATABASE = "broken"
OTHER_PASSWORD = "quite another passphrase"
# Holds every transaction that writes the table at its commit, until the test lets go of the lock.
HELD_AT_COMMIT = """
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER hold AFTER INSERT OR UPDATE ON {} DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION hold()
"""
COMMITTING = "SELECT pid FROM pg_stat_activity WHERE query = 'COMMIT' AND wait_event = 'advisory'"
# A statement in flight is given up after six, and a new connection after two.
SECONDS_OF_SILENCE = 12


@pytest.fixture(scope="module")
def our(postgres, tmp_path_factory) -> Iterator[Site]:
    database = postgres.make_database(DATABASE, "migrated")
    with site(tmp_path_factory.mktemp("postgres"), database, MAGICAUTH_PASSWORDS="optional") as ours:
        ours.mail_server.open()
        yield ours


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Iterator[tuple[Site, Path]]:
    """A site on SQLite, and its file."""
    folder = tmp_path_factory.mktemp("sqlite")
    file = folder / "magicauth.sqlite3"
    engine = create_engine(f"sqlite:///{file}")
    Base.metadata.create_all(engine)
    engine.dispose()
    with site(folder, f"sqlite:///{file}") as ours:
        ours.mail_server.open()
        yield ours, file


def check_away(answer: httpx.Response) -> None:
    """Whether it says, in words for people, that something is away and when to come back."""
    assert (answer.status_code, answer.headers.get("Retry-After")) == (503, "2"), answer.text
    assert "Nothing is lost" in answer.text
    assert "psycopg" not in answer.text and "sqlite" not in answer.text.lower()


def accounts(postgres: Postgres, email: str) -> int:
    ((count,),) = postgres.rows(DATABASE, f"SELECT count(*) FROM users WHERE canonical_email = '{email}'")
    return count


def cut_connections(postgres: Postgres, database: str) -> None:
    with postgres.connect("postgres") as operator:
        operator.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database])


@contextlib.contextmanager
def read_only(postgres: Postgres) -> Iterator[None]:
    """The database takes no writes inside the block."""

    def set_to(value: str) -> None:
        with postgres.connect("postgres") as operator:
            operator.execute(f'ALTER DATABASE "{DATABASE}" SET default_transaction_read_only = {value}')
        # Those that stand keep what they began with.
        cut_connections(postgres, DATABASE)

    set_to("on")
    try:
        yield
    finally:
        set_to("off")


@contextlib.contextmanager
def dying_at_commit(postgres: Postgres, table: str) -> Iterator[Callable[[], None]]:
    """Inside the block whatever writes the table waits at its commit, and can be killed there: PostgreSQL then ends
    every connection and recovers."""
    with postgres.connect(DATABASE) as operator:
        operator.execute(HELD_AT_COMMIT.format(table))
        operator.execute("SELECT pg_advisory_lock(1)")

        def die() -> None:
            ((pid,),) = wait_for(lambda: operator.execute(COMMITTING).fetchall())
            os.kill(pid, signal.SIGKILL)

        yield die
        # It takes connections until it has noticed, and ends them all when it has.
        wait_for(lambda: is_over(operator), PATIENCE)
    wait_for(postgres.answers, PATIENCE)
    with postgres.connect(DATABASE) as operator:
        operator.execute("DROP FUNCTION hold CASCADE")


def is_over(connection: psycopg.Connection[Any]) -> bool:
    """Whether the server has ended it."""
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return True
    return False


def during(ask: Callable[[], httpx.Response], act: Callable[[], None]) -> httpx.Response:
    """The answer to a request, during which something happens."""
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(ask)
        act()
        return answer.result()


# --- away ------------------------------------------------------------------------------------------------------------


def test_a_database_that_is_stopped_costs_nobody_a_link_a_code_or_a_guess(our, postgres, ada, new, email):
    invited = f"new-{email}"
    new.post("/users/magic_link", data={"email": invited})
    form = {"token": our.mail_server.letter(invited).token, "name": "Eve", "password": PASSWORD}
    with our.gunicorn.browser() as asking:
        ask_to_sign_in(asking, email)
        letter = our.mail_server.letter(email, 2)
        postgres.stop()
        try:
            # Whoever starts while it is away comes up all the same.
            our.gunicorn.process.kill()
            our.gunicorn.start()
            assert name_at_home(ada) == "Ada Lovelace"
            for path in ("/auth", "/users/magic_link", "/healthz", "/static/app.css"):
                assert new.get(path).status_code == 200, path
            ready = new.get("/readyz")
            assert (ready.status_code, ready.json()["redis"], ready.json()["database"]) == (503, "ok", "away")
            check_away(ada.get("/account/activity"))
            check_away(new.get("/users/signup", params={"token": form["token"]}))
            check_away(new.post("/users/signup", data=form))
            # More often than there are guesses, and places in the budget of passwords.
            for _ in range(12):
                check_away(asking.post("/verify", data={"OTP": letter.code}))
                check_away(new.post("/auth", data={"email": email, "password": PASSWORD}))
            check_away(asking.post("/auth/link", json={"token": letter.token}))
        finally:
            postgres.start()
        assert new.get("/readyz").status_code == 200
        assert new.post("/users/signup", data=form).headers["Location"] == "/home"
        assert asking.post("/verify", data={"OTP": letter.code}).headers["Location"] == "/home"
        ask_to_sign_in(new, email)
    assert accounts(postgres, invited) == 1


def test_a_session_that_is_due_to_be_checked_waits_for_the_database(postgres, redis, redis_url, tmp_path):
    with quiet_app(redis_url, tmp_path, DATABASE_URL=postgres.make_database("due", "migrated")) as app:
        ada = app.test_client()
        with delivering(app):
            pages.sign_up(ada)
        postgres.stop()
        try:
            with later(redis, 61):
                for path in ("/home", "/auth"):
                    assert [ada.get(path, headers=headers).status_code for headers in ({}, JSON)] == [503, 503]
                assert ada.post("/logout").status_code == 503
        finally:
            postgres.start()
        with later(redis, 61):
            assert pages.is_signed_in(ada)


def test_a_database_that_hangs_is_given_up_in_time(our, postgres, ada, new, email):
    ask_to_sign_in(new, email)
    code = our.mail_server.letter(email, 2).code
    # Each thread of the worker has a connection that stands, and finds out by itself.
    at_once(4, lambda _: ada.get("/account/activity"))
    with postgres.hung():
        asked = time.monotonic()
        for answer in at_once(4, lambda _: new.post("/verify", data={"OTP": code})):
            check_away(answer)
        assert time.monotonic() - asked < SECONDS_OF_SILENCE
        assert name_at_home(ada) == "Ada Lovelace"
    assert new.post("/verify", data={"OTP": code}).headers["Location"] == "/home"


def test_a_restart_under_traffic_is_over_when_the_database_is_back(our, postgres, ada):
    answers: Counter[Any] = Counter()
    back, over = threading.Event(), threading.Event()

    def visit() -> None:
        with our.gunicorn.browser() as visitor:
            visitor.cookies.update(ada.cookies)
            while not over.wait(0.02):
                was_back = back.is_set()
                answers[was_back, visitor.get("/account/activity", headers=JSON).status_code] += 1

    visitors = [threading.Thread(target=visit) for _ in range(4)]
    for visitor in visitors:
        visitor.start()
    try:
        wait_for(lambda: answers[False, 200] >= 20, PATIENCE)
        postgres.stop()
        wait_for(lambda: answers[False, 503] >= 20, PATIENCE)
        postgres.start()
        back.set()
        wait_for(lambda: answers[True, 200] >= 50, PATIENCE)
    finally:
        over.set()
        for visitor in visitors:
            visitor.join()
    assert set(answers) == {(False, 200), (False, 503), (True, 200)}


def test_a_database_that_takes_no_writes_burns_no_link_and_no_code(our, postgres, ada, new, email):
    invited, unfinished = f"new-{email}", {"name": "Eve", "password": ""}
    new.post("/users/magic_link", data={"email": invited})
    unfinished["token"] = our.mail_server.letter(invited).token
    with our.gunicorn.browser() as asking:
        with read_only(postgres):
            assert ada.get("/account/activity").status_code == 200
            check_away(ada.post("/account", data={"name": "Ada King", "phone": ""}))
            ask_to_sign_in(asking, email)
            letter = our.mail_server.letter(email, 2)
            # It counts, though nobody says so: a right one may need no write, and would tell that this was wrong.
            check_away(asking.post("/verify", data={"OTP": "x"}))
            for _ in range(6):
                check_away(asking.post("/verify", data={"OTP": letter.code}))
                check_away(new.post("/users/signup", data=unfinished))
        assert name_at_home(ada) == "Ada Lovelace"
        assert asking.post("/verify", json={"OTP": "x"}).json()["attempts_left"] == 3
        assert asking.post("/verify", data={"OTP": letter.code}).headers["Location"] == "/home"
        assert new.post("/users/signup", data=unfinished).headers["Location"] == "/home"
        assert accounts(postgres, invited) == accounts(postgres, email) == 1
        # The link, in a browser where the address is typed.
        asking.post("/auth", data={"email": invited})
        followed = {"token": our.mail_server.letter(invited, 2).token, "email": invited}
        with our.gunicorn.browser() as elsewhere:
            with read_only(postgres):
                for _ in range(6):
                    check_away(elsewhere.post("/auth/link", data=followed))
            assert elsewhere.post("/auth/link", data=followed).headers["Location"] == "/home"
            assert elsewhere.post("/auth/link", data=followed).status_code == 403


# --- dying at the commit ---------------------------------------------------------------------------------------------


def test_killed_between_insert_and_commit_it_makes_one_account_in_the_end(our, postgres, new, email):
    new.post("/users/magic_link", data={"email": email})
    form = {"token": our.mail_server.letter(email).token, "name": "Eve", "password": PASSWORD}
    with dying_at_commit(postgres, "users") as die:
        answer = during(lambda: new.post("/users/signup", data=form), die)
    check_away(answer)
    assert not answer.cookies and new.get("/home").status_code == 303
    assert accounts(postgres, email) == 0
    assert new.post("/users/signup", data=form).headers["Location"] == "/home"
    assert accounts(postgres, email) == 1


def test_killed_at_the_commit_of_a_sign_in_it_leaves_the_code_good(our, postgres, ada, new, email):
    ask_to_sign_in(new, email)
    code = our.mail_server.letter(email, 2).code
    with dying_at_commit(postgres, "audit") as die:
        check_away(during(lambda: new.post("/verify", data={"OTP": code}), die))
    assert new.get("/home").status_code == 303
    assert new.post("/verify", data={"OTP": code}).headers["Location"] == "/home"


def test_killed_at_the_commit_of_a_new_password_it_leaves_the_old_one_good(our, postgres, ada, new, email):
    passwords = {"old_password": PASSWORD, "password": OTHER_PASSWORD}
    with dying_at_commit(postgres, "users") as die:
        check_away(during(lambda: ada.post("/account/password", data=passwords), die))
    assert name_at_home(ada) == "Ada Lovelace"
    ask_to_sign_in(new, email)
    assert ada.post("/account/password", data=passwords).headers["Location"] == "/account"
    assert new.post("/auth", data={"email": email, "password": PASSWORD}).status_code == 401


def test_killed_when_the_answer_is_made_it_does_not_unmake_it(postgres, redis, redis_url, tmp_path):
    database = "dying"
    with quiet_app(redis_url, tmp_path, DATABASE_URL=postgres.make_database(database, "migrated")) as app:

        @app.after_request
        def cut(answer):
            cut_connections(postgres, database)
            return answer

        for _ in range(2):
            assert app.test_client().post("/users/magic_link", data={"email": "ada@example.org"}).status_code == 303


# --- what is logged of it ---------------------------------------------------------------------------------------------


def test_a_letter_that_waits_for_the_database_is_no_fault_of_the_mail_servers(redis, redis_url, tmp_path, caplog):
    with quiet_app(redis_url, tmp_path) as app:
        app.test_client().post("/auth", data={"email": "stranger@example.org"})
        with contextlib.closing(sqlite3.connect(tmp_path / "magicauth.sqlite3")) as operator:
            operator.execute("ALTER TABLE users RENAME TO away")
            with delivering(app):
                wait_for(lambda: "letter waits: the database is away" in caplog.text)
                with app.app_context():
                    assert outbox.status().last == ""
                operator.execute("ALTER TABLE away RENAME TO users")
                wait_for(lambda: Letters(app).all("stranger@example.org"))
    assert "Traceback" not in caplog.text and "stranger" not in caplog.text


def test_a_statement_that_fails_is_logged_without_the_address_that_it_asked_for(redis, redis_url, tmp_path, caplog):
    with quiet_app(redis_url, tmp_path) as app:
        app.test_client_class = FlaskClient
        with contextlib.closing(sqlite3.connect(tmp_path / "magicauth.sqlite3")) as operator:
            operator.execute("CREATE TRIGGER no BEFORE INSERT ON audit BEGIN SELECT raise(ABORT, 'no'); END")
        wrong = {"email": "stranger@example.org", "password": "not the one"}
        assert app.test_client().post("/auth", json=wrong).status_code == 500
    assert "INSERT INTO audit" in caplog.text and "stranger" not in caplog.text


def test_migrating_a_database_that_hangs_is_given_up(our, postgres):
    with postgres.hung():
        # It is given a minute.
        assert our.gunicorn.flask("db", "upgrade").returncode != 0


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_of_another_encoding_holds_every_name_or_is_refused(postgres, redis, redis_url, tmp_path, encoding):
    settings = SETTINGS | {
        "DATABASE_URL": postgres.make_database("odd", "template0", f"ENCODING '{encoding}' LOCALE 'C'")
    }
    with quiet_app(redis_url, tmp_path, **settings) as app:
        run = app.test_cli_runner().invoke
        upgraded = run(args=["db", "upgrade"])
        if encoding == "LATIN1":
            assert upgraded.exit_code == 1 and "one made with ENCODING 'UTF8'" in upgraded.stderr
            assert "wrong    database encoding: LATIN1" in run(args=["doctor"]).stdout
        else:
            assert upgraded.exit_code == 0, upgraded.stderr
            assert run(args=["users", "create", "ada@example.org", "--name", "Łukasz 李"]).exit_code == 0
            assert "Łukasz 李" in run(args=["users", "list"]).stdout
            assert "warning  database encoding: SQL_ASCII" in run(args=["doctor"]).stdout


def test_a_table_that_is_locked_is_not_one_that_is_missing(postgres, redis, redis_url, tmp_path):
    settings = SETTINGS | {"DATABASE_URL": postgres.make_database("locked")}
    with quiet_app(redis_url, tmp_path, **settings) as app, postgres.connect("locked") as operator:
        app.test_client_class = PublicBrowser
        assert app.test_cli_runner().invoke(args=["db", "upgrade"]).exit_code == 0
        operator.execute("ALTER DATABASE locked SET lock_timeout = '100ms'")
        with operator.transaction():
            operator.execute("LOCK TABLE audit IN ACCESS EXCLUSIVE MODE")
            assert app.test_client().get("/readyz").get_json()["database"] == "away"
        assert app.test_client().get("/readyz").get_json()["database"] == "ok"


def test_one_that_was_not_migrated_is_said_so_and_waited_for(postgres, redis, redis_url, tmp_path, capfd, monkeypatch):
    # One that writes where this test can read it.
    monkeypatch.setattr(logging.getLogger("magicauth"), "handlers", [])
    settings = SETTINGS | {"DATABASE_URL": postgres.make_database("new")}
    with quiet_app(redis_url, tmp_path, **settings) as app:
        app.test_client_class = PublicBrowser
        assert app.test_client().get("/readyz").get_json()["database"] == "not migrated"
        assert app.test_client().post("/auth", json={"email": "ada@example.org"}).status_code == 503
        assert 'relation \\"users\\" does not exist' in capfd.readouterr().err
        assert app.test_cli_runner().invoke(args=["db", "upgrade"]).exit_code == 0
        assert app.test_client().get("/readyz").status_code == 200


# --- SQLite ----------------------------------------------------------------------------------------------------------


def test_sqlite_locked_by_another_writer_loses_nothing(small, email):
    site, file = small
    with site.gunicorn.browser() as ada, site.gunicorn.browser() as new:
        form = signed_up_and_another_asking(site, ada, new, email)
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            assert ada.get("/account/activity").status_code == 200
            asked = time.monotonic()
            check_away(new.post("/users/signup", data=form))
            assert time.monotonic() - asked < 4
        assert new.post("/users/signup", data=form).headers["Location"] == "/home"


def test_sqlite_on_a_full_disk_loses_nothing(small, email):
    site, file = small
    with site.gunicorn.browser() as ada, site.gunicorn.browser() as new:
        form = signed_up_and_another_asking(site, ada, new, email)
        with no_file_grows_over(site.gunicorn.workers[0], Path(f"{file}-wal").stat().st_size):
            assert ada.get("/account/activity").status_code == 200
            check_away(ada.post("/account", data={"name": "Ada King", "phone": ""}))
            check_away(new.post("/users/signup", data=form))
        assert ada.get("/account").text.count("Ada Lovelace")
        assert new.post("/users/signup", data=form).headers["Location"] == "/home"


def signed_up_and_another_asking(site: Site, ada: httpx.Client, new: httpx.Client, email: str) -> dict[str, str]:
    """What finishes the sign-up of the second browser."""
    sign_up(ada, site.mail_server, email)
    new.post("/users/magic_link", data={"email": f"new-{email}"})
    return {"token": site.mail_server.letter(f"new-{email}").token, "name": "Eve", "password": PASSWORD}
