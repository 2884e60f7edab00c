"""The commands: `flask users | sessions | mail | audit | doctor`."""

import json
import os
import re
import shutil
import socket
import socketserver
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import click
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset
import pytest
from instruments import quiet_app
from pages import EMAIL, JSON, PASSWORD, Letters, is_signed_in, other_browser, sign_in, sign_up

from magicauth.cli import create_user
from magicauth.models import User

ROOT = Path(__file__).parent.parent
NEW = "seven other horses graze"
FACTS = ["id", "name", "email", "phone", "created_at", "updated_at", "admin", "disabled", "has_password"]


# What the mailbox tells on the console when a letter arrives, which may be while a command runs.
LETTER_LINES = re.compile(r"^Letter to .*\n(?:  http.*\n)*", re.MULTILINE)


@pytest.fixture
def flask(app):
    """Runs a command of the app; returns what it says and how it ends."""
    runner = app.test_cli_runner()

    def run(*arguments, **options):
        Letters(app).all()
        result = runner.invoke(args=list(arguments), **options)
        Letters(app).all()
        stdout = LETTER_LINES.sub("", result.stdout)
        return SimpleNamespace(
            exit_code=result.exit_code, stdout=stdout, stderr=result.stderr, output=stdout + result.stderr
        )

    return run


def shell_settings(redis_url, folder):
    """The environment of an operator's shell in production."""
    settings = {
        "MAGICAUTH_MODE": "production",
        "SECRET_KEY": "0123456789abcdefghijklmnopqrstuvwxyz",
        "PUBLIC_URL": "https://id.example.org",
        "REDIS_URL": redis_url,
        "DATABASE_URL": f"sqlite:///{folder / 'shell.sqlite3'}",
        "MAIL_SERVER": "127.0.0.1",
        "FLASK_SKIP_DOTENV": "1",
    }
    return {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")} | settings


def users(flask):
    return json.loads(flask("users", "list", "--json").stdout)


def shown(flask, email=EMAIL):
    return json.loads(flask("users", "show", email, "--json").stdout)


def check_refused(result, sentence):
    """One line on standard error, exit 1, nothing else."""
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == f"Error: {sentence}\n"


# --- making accounts -------------------------------------------------------------------------------------------------


def test_an_account_without_a_password_signs_in_by_mail_and_sets_one_later(app, flask):
    result = flask("users", "create", "Ada@Example.org", "--name", "Ada Lovelace")
    assert (result.exit_code, result.stdout.splitlines()[0], result.stderr) == (0, "Account made: Ada@example.org", "")
    assert "mailed code" in result.stdout
    facts = shown(flask)
    assert (facts["name"], facts["has_password"], facts["admin"]) == ("Ada Lovelace", False, False)
    browser, mailbox = app.test_client(), Letters(app)
    assert browser.post("/auth", json={"email": EMAIL, "password": "anything at all"}).status_code == 401
    browser.post("/auth", data={"email": EMAIL})
    assert browser.post("/verify", data={"OTP": mailbox.last().code}).location == "/home"
    assert browser.post("/account/password", data={"password": NEW}).location == "/account"
    assert shown(flask)["has_password"] is True


def test_where_there_are_no_passwords_an_account_gets_none(make_app):
    flask = make_app(MAGICAUTH_PASSWORDS="off").test_cli_runner().invoke
    refused = flask(args=["users", "create", EMAIL, "--password-stdin"], input=f"{PASSWORD}\n")
    check_refused(refused, "MAGICAUTH_PASSWORDS is off: no account has a password.")
    made = flask(args=["users", "create", EMAIL])
    assert made.stdout.splitlines()[1] == "Without a password: its owner signs in by mailed code."


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\nsecond line\n"])
def test_the_password_is_read_from_standard_input(app, flask, ending):
    result = flask("users", "create", EMAIL, "--password-stdin", input=f" {PASSWORD}{ending}")
    assert result.exit_code == 0 and PASSWORD not in result.output
    assert sign_in(app.test_client(), password=f" {PASSWORD}").location == "/home"


@pytest.mark.parametrize("weak", ["", "\n", "short\n", "password1\n", "ada@example.org\n", "x" * 129])
def test_a_weak_password_makes_no_account(flask, weak):
    result = flask("users", "create", EMAIL, "--password-stdin", input=weak)
    assert result.exit_code == 1 and result.stdout == ""
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert users(flask) == []


def test_an_administrator_sees_everybody_at_once(app, flask):
    flask("users", "create", EMAIL, "--admin", "--password-stdin", input=PASSWORD)
    browser = app.test_client()
    sign_in(browser)
    assert [user["email"] for user in browser.get("/users", headers=JSON).get_json()["users"]] == [EMAIL]


def test_a_second_account_for_an_address_is_refused(flask):
    flask("users", "create", EMAIL)
    check_refused(flask("users", "create", "ADA@example.org"), "ADA@example.org has an account already.")
    check_refused(flask("users", "invite", "ADA@example.org"), "ADA@example.org has an account already.")
    assert len(users(flask)) == 1


@pytest.mark.parametrize("email", ["", "ada", "ada@example.org\nBcc: eve@example.org", "a@b.example,c@d.example"])
@pytest.mark.parametrize(
    "command", [("users", "create"), ("users", "invite"), ("users", "show"), ("mail", "send-test")]
)
def test_a_bad_address_is_one_line(flask, command, email):
    result = flask(*command, email)
    assert result.exit_code == 1
    assert result.stderr in ("Error: Email is invalid.\n", "Error: Email required.\n")


@pytest.mark.parametrize("name", ["Ada\x1b[2J", "Ada\nEve", "x" * 101])
def test_a_name_that_would_write_on_the_terminal_is_refused(flask, name):
    result = flask("users", "create", EMAIL, "--name", name)
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert users(flask) == []


def test_an_invitation_lets_in_where_sign_up_is_closed(make_app):
    app = make_app(MAGICAUTH_SIGN_UP="closed", PUBLIC_URL="http://localhost")
    result = app.test_cli_runner().invoke(args=["users", "invite", EMAIL])
    assert (result.exit_code, LETTER_LINES.sub("", result.stdout)) == (0, f"Invitation on its way: {EMAIL}\n")
    letter, browser = Letters(app).last(), app.test_client()
    assert letter.to == EMAIL and letter.links[0].startswith("http://localhost/users/signup?token=")
    assert browser.get(letter.link).status_code == 200
    form = {"token": letter.token, "name": "Ada", "password": PASSWORD}
    assert browser.post("/users/signup", data=form).location == "/home"
    assert browser.post("/users/signup", data=form).status_code == 403


# --- lists -----------------------------------------------------------------------------------------------------------


def test_the_list_is_in_the_order_of_making_and_never_holds_a_password(app, flask):
    for email in ("cy@example.org", "al@example.org", "bo@example.org"):
        flask("users", "create", email, "--password-stdin", input=PASSWORD)
    found = users(flask)
    assert [user["email"] for user in found] == ["cy@example.org", "al@example.org", "bo@example.org"]
    assert list(found[0]) == FACTS
    everything = (
        flask("users", "list", "--json").stdout
        + flask("users", "list").stdout
        + flask("users", "show", "cy@example.org").stdout
    )
    assert "argon2" not in everything


def test_the_table_has_a_heading_and_a_line_for_each(flask):
    assert flask("users", "list").stdout == ""
    assert json.loads(flask("users", "list", "--json").stdout) == []
    flask("users", "create", EMAIL, "--name", "Ada Lovelace", "--admin")
    flask("users", "create", "eve@example.org", "--name", "Ève")
    heading, ada, eve = flask("users", "list").stdout.splitlines()
    assert heading.split() == [name.upper() for name in FACTS]
    assert heading.index("EMAIL") == ada.index(EMAIL) == eve.index("eve@example.org")
    assert ada.split()[-3:] == ["yes", "no", "no"] and eve.split()[-3:] == ["no", "no", "no"]


def test_one_account_is_shown_line_by_line(flask):
    flask("users", "create", EMAIL, "--name", "Ada Lovelace")
    lines = dict(
        line.split(maxsplit=1) for line in flask("users", "show", EMAIL).stdout.splitlines() if " " in line.strip()
    )
    assert (lines["email"], lines["name"], lines["admin"]) == (EMAIL, "Ada Lovelace", "no")
    assert list(shown(flask)) == FACTS


def test_sessions_are_listed(app, flask):
    flask("users", "create", EMAIL, "--password-stdin", input=PASSWORD)
    assert json.loads(flask("sessions", "list", EMAIL, "--json").stdout) == []
    browser = app.test_client()
    sign_in(browser)
    (session,) = json.loads(flask("sessions", "list", EMAIL, "--json").stdout)
    assert list(session) == ["session", "browser", "address", "created_at", "seen_at"]
    assert session["address"] == "127.0.0.1"
    heading, line = flask("sessions", "list", EMAIL).stdout.splitlines()
    assert heading.startswith("SESSION") and line.startswith(session["session"])
    assert browser.get_cookie("magicauth").value not in flask("sessions", "list", EMAIL).stdout


# --- what an operator does to an account -----------------------------------------------------------------------------


UNKNOWN = [
    ("users", "show"),
    ("users", "promote"),
    ("users", "demote"),
    ("users", "disable"),
    ("users", "enable"),
    ("users", "delete"),
    ("users", "delete", "--yes"),
    ("users", "sign-out"),
    ("sessions", "list"),
    ("sessions", "list", "--json"),
    ("audit", "--user"),
]


@pytest.mark.parametrize("command", UNKNOWN, ids=" ".join)
def test_an_unknown_user_is_one_line_on_standard_error_and_exit_1(flask, command):
    check_refused(flask(*command, "nobody@example.org"), "There is no user with the address nobody@example.org.")


def test_promoting_and_demoting_counts_at_once(app, client, flask):
    sign_up(client)
    assert client.get("/users", headers=JSON).status_code == 403
    assert flask("users", "promote", EMAIL).stdout == f"{EMAIL} is an administrator.\n"
    assert client.get("/users", headers=JSON).status_code == 200
    assert shown(flask)["admin"] is True
    assert flask("users", "demote", EMAIL.upper()).stdout == f"{EMAIL} is not an administrator.\n"
    assert client.get("/users", headers=JSON).status_code == 403


def test_disabling_shuts_everything_and_enabling_opens_it_again(client, flask, mailbox):
    sign_up(client)
    asking = other_browser(client)
    asking.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    code = mailbox.last(EMAIL).code
    assert flask("users", "disable", EMAIL).stdout == f"{EMAIL} is disabled.\n"
    assert not is_signed_in(client)
    assert asking.post("/verify", json={"OTP": code}).status_code == 404
    assert other_browser(client).post("/auth", json={"email": EMAIL, "password": PASSWORD}).status_code == 401
    assert flask("users", "enable", EMAIL).stdout == f"{EMAIL} is enabled.\n"
    assert not is_signed_in(client)
    assert sign_in(other_browser(client)).location == "/home"


def test_signing_out_ends_every_session_and_tells_the_owner(client, flask, mailbox):
    sign_up(client)
    phone = other_browser(client)
    sign_in(phone)
    assert flask("users", "sign-out", EMAIL).stdout == f"{EMAIL} is signed out everywhere.\n"
    assert not is_signed_in(client) and not is_signed_in(phone)
    assert mailbox.last(EMAIL).subject == "You were signed out of magicauth"
    assert json.loads(flask("sessions", "list", EMAIL, "--json").stdout) == []
    assert sign_in(phone).location == "/home"


@pytest.mark.parametrize(
    ("answer", "gone"), [("y\n", True), ("n\n", False), ("\n", False), ("", False), ("yes\n", True)]
)
def test_deleting_asks_first(client, flask, answer, gone):
    sign_up(client)
    result = flask("users", "delete", EMAIL, input=answer)
    assert "Delete ada@example.org for good? [y/N]" in result.stdout
    assert result.exit_code == (0 if gone else 1)
    assert [user["email"] for user in users(flask)] == ([] if gone else [EMAIL])
    assert is_signed_in(client) is not gone


def test_deleting_with_yes_does_not_ask(client, flask, mailbox):
    sign_up(client)
    assert flask("users", "delete", "--yes", EMAIL).stdout == f"{EMAIL} is deleted.\n"
    assert users(flask) == [] and not is_signed_in(client)
    assert "deleted" in mailbox.last(EMAIL).subject


# --- letters ---------------------------------------------------------------------------------------------------------


def test_a_test_letter_arrives(app, flask):
    result = flask("mail", "send-test", EMAIL)
    assert (result.exit_code, result.stdout) == (0, f"Test letter on its way: {EMAIL}\n")
    letter = Letters(app).last()
    assert letter.to == EMAIL and letter.code is None
    assert json.loads(flask("mail", "status", "--json").stdout)["last"] == "ok"


def test_the_state_of_the_post(redis, redis_url, tmp_path):
    with quiet_app(redis_url, tmp_path) as app:
        runner = app.test_cli_runner()

        def status():
            return json.loads(runner.invoke(args=["mail", "status", "--json"]).stdout)

        assert status() == {
            "waiting": 0,
            "retrying": 0,
            "given_up": 0,
            "oldest_seconds": 0.0,
            "last": "none yet",
            "reason": "",
        }
        for _ in range(3):
            runner.invoke(args=["mail", "send-test", EMAIL])
        assert status()["waiting"] == 3
        assert runner.invoke(args=["mail", "status"]).stdout.splitlines()[0].split() == ["waiting", "3"]
        assert runner.invoke(args=["mail", "retry"]).stdout == "0 letters queued again.\n"


@pytest.mark.parametrize("threads", ["0", "-1", "x"])
def test_a_worker_without_threads_is_refused(flask, threads):
    assert flask("mail", "worker", "--threads", threads).exit_code == 2


def test_the_worker_sends_until_it_is_told_to_stop(redis, redis_url, tmp_path):
    env = shell_settings(redis_url, tmp_path)
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "mail", "worker", "--threads", "1"]
    with subprocess.Popen(
        command, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as worker:
        assert worker.stdout.readline() == "Sending letters.\n"
        worker.terminate()
        assert worker.wait(30) == 0


def test_what_is_away_is_said_in_one_line(redis, redis_url, tmp_path):
    settings = shell_settings(redis_url, tmp_path)
    nowhere = f"sqlite:///{tmp_path / 'nowhere' / 'x.sqlite3'}"

    def said(app, *arguments):
        result = app.test_cli_runner().invoke(args=arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        (line,) = result.stderr.splitlines()
        return line

    with quiet_app(redis_url, tmp_path, **settings | {"DATABASE_URL": nowhere}) as app:
        for command in (("db", "upgrade"), ("db", "current")):
            assert said(app, *command).startswith("Error: The database is away")
        assert "unable to open" in said(app, "users", "list")
    with quiet_app(redis_url, tmp_path, **settings) as app:
        assert "`flask db upgrade` (sqlalchemy.exc.OperationalError: no such table" in said(app, "users", "list")
    with quiet_app("redis://127.0.0.1:1/0", tmp_path, **settings | {"REDIS_URL": "redis://127.0.0.1:1/0"}) as app:
        runner = app.test_cli_runner()
        assert runner.invoke(args=["db", "upgrade"]).exit_code == 0
        assert runner.invoke(args=["users", "create", EMAIL]).exit_code == 0
        # It would not be told of, and could not be tried again.
        line = said(app, "users", "delete", EMAIL, "--yes")
        assert line.startswith("Error: Redis is away") and line.endswith("Nothing was changed.")
        assert runner.invoke(args=["users", "show", EMAIL]).exit_code == 0
        # An intruder is thrown out all the same: his session counts no longer, whatever Redis still holds.
        assert said(app, "users", "sign-out", EMAIL).endswith("What was changed in the database stands.")
        with app.app_context():
            assert User.by_email(EMAIL).session_epoch == 2
        assert said(app, "users", "invite", "grace@example.org").endswith("Nothing was changed.")
        (event, _) = json.loads(runner.invoke(args=["audit", "--json"]).stdout)
        assert event["action"] == "user:sessions:ended"


def test_of_a_full_redis_it_says_that_nothing_was_changed(app, full):
    run = app.test_cli_runner().invoke
    run(args=["users", "create", EMAIL])
    with full():
        for command in (["users", "delete", EMAIL, "--yes"], ["users", "invite", "grace@example.org"]):
            done = run(args=command)
            assert (done.exit_code, done.stderr.endswith("Nothing was changed.\n")) == (1, True), done.stderr
    assert run(args=["users", "show", EMAIL]).exit_code == 0
    assert "operator:invited" not in run(args=["audit"]).stdout


def test_a_variable_that_is_not_set_is_nobody_and_not_everybody(app):
    run = app.test_cli_runner().invoke
    run(args=["users", "create", EMAIL])
    assert run(args=["audit", "--user", ""]).exit_code == 1
    for option in ("--action", "--result"):
        assert "operator" not in run(args=["audit", option, ""]).stdout


def test_a_password_without_a_standard_input_is_asked_for_in_a_sentence(app, monkeypatch):
    with app.app_context(), monkeypatch.context() as closed:
        closed.setattr(sys, "stdin", None)
        with pytest.raises(click.ClickException, match="no standard input"):
            create_user.callback.__wrapped__("ada@example.org", "", admin=False, password_stdin=True)


# --- the doctor ------------------------------------------------------------------------------------------------------


def test_the_doctor_finds_development_well(flask):
    result = flask("doctor")
    assert result.exit_code == 0, result.output
    found = json.loads(flask("doctor", "--json").stdout)
    assert {"check", "state", "words"} == set(found[0])
    assert {finding["state"] for finding in found} <= {"ok", "warning"}
    looked_at = {finding["check"] for finding in found}
    assert looked_at >= {
        "SECRET_KEY",
        "PUBLIC_URL",
        "Redis",
        "Redis eviction",
        "clock",
        "database",
        "migrations",
        "letters",
    }
    assert len(result.stdout.splitlines()) == len(found)


def wrong(app):
    result = app.test_cli_runner().invoke(args=["doctor", "--json"])
    assert result.exit_code == 1
    return [finding["check"] for finding in json.loads(result.stdout) if finding["state"] == "wrong"]


def test_the_doctor_finds_a_redis_that_is_away_and_keeps_its_password_to_himself(tmp_path):
    with quiet_app("redis://:open-sesame@127.0.0.1:1/0", tmp_path) as app:
        assert wrong(app) == ["Redis"]
        result = app.test_cli_runner().invoke(args=["doctor"])
        assert result.exit_code == 1
        assert "127.0.0.1:1" in result.stdout and "open-sesame" not in result.output


def test_the_doctor_finds_a_redis_that_forgets(app, redis):
    redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert wrong(app) == ["Redis eviction"]
    finally:
        redis.config_set("maxmemory-policy", "noeviction")


def test_the_doctor_finds_a_redis_that_takes_no_writes(app, redis):
    redis.config_set("maxmemory", "1")
    try:
        assert wrong(app) == ["Redis writes"]
    finally:
        redis.config_set("maxmemory", "0")


def test_the_doctor_finds_a_mail_server_that_takes_no_letters(redis_url, tmp_path):
    with quiet_app(redis_url, tmp_path, MAIL_SERVER="127.0.0.1", MAIL_PORT="1") as app:
        assert wrong(app) == ["mail"]


@contextmanager
def serving(server):
    """The port of a server that answers inside the block."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class NoLogIn(socketserver.StreamRequestHandler):
    """A mail server that knows nobody."""

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        for line in self.rfile:
            answers = {b"EHLO": b"250-here\r\n250 AUTH PLAIN\r\n", b"AUTH": b"535 who is that\r\n"}
            self.wfile.write(answers.get(line[:4].upper(), b"250 yes\r\n"))


def test_the_doctor_finds_a_mail_server_that_does_not_know_us_and_keeps_the_password_to_himself(redis_url, tmp_path):
    with serving(socketserver.TCPServer(("127.0.0.1", 0), NoLogIn)) as port:
        settings = {"MAIL_SERVER": "127.0.0.1", "MAIL_PORT": str(port), "MAIL_USERNAME": "us"}
        with quiet_app(redis_url, tmp_path, MAIL_PASSWORD="open-sesame", **settings) as app:
            assert wrong(app) == ["mail"]
            output = app.test_cli_runner().invoke(args=["doctor"]).stdout
    assert "SMTPAuthenticationError" in output and "open-sesame" not in output


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificate")
def test_the_doctor_finds_a_mail_server_whose_certificate_nobody_vouches_for(redis_url, tmp_path):
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    files = ["-keyout", "key.pem", "-out", "own.pem"]
    subprocess.run([*command, *files], cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "own.pem", tmp_path / "key.pem")
    server = socketserver.TCPServer(("127.0.0.1", 0), NoLogIn)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with serving(server) as port:
        settings = {"MAIL_SERVER": "127.0.0.1", "MAIL_PORT": str(port), "MAIL_USE_SSL": "true"}
        with quiet_app(redis_url, tmp_path, **settings) as app:
            assert wrong(app) == ["mail"]
            assert "CERTIFICATE_VERIFY_FAILED" in app.test_cli_runner().invoke(args=["doctor"]).stdout


def test_the_doctor_finds_a_database_without_its_tables(redis, redis_url, tmp_path):
    settings = {
        "MAGICAUTH_MODE": "production",
        "SECRET_KEY": "0123456789abcdefghijklmnopqrstuvwxyz",
        "PUBLIC_URL": "https://id.example.org",
        "DATABASE_URL": f"sqlite:///{tmp_path / 'empty.sqlite3'}",
        "MAIL_SERVER": "127.0.0.1",
        "MAIL_PORT": "1",
    }
    with quiet_app(redis_url, tmp_path, **settings) as app:
        assert "migrations" in wrong(app)
        assert app.test_cli_runner().invoke(args=["db", "upgrade"]).exit_code == 0
        assert "migrations" not in wrong(app)
        with closing(sqlite3.connect(tmp_path / "empty.sqlite3")) as newer, newer:
            newer.execute("UPDATE alembic_version SET version_num = '9999'")
        # While a newer release is rolled out.
        assert "migrations" not in wrong(app)
        assert "at 9999, which a newer release has made" in app.test_cli_runner().invoke(args=["doctor"]).stdout
        # Or after it was taken back: a machine that starts with `flask db upgrade` must start.
        assert app.test_cli_runner().invoke(args=["db", "upgrade"]).exit_code == 0
        for command in (("downgrade",), ("downgrade", "0003"), ("stamp", "0003"), ("upgrade", "0003")):
            assert app.test_cli_runner().invoke(args=["db", *command]).exit_code == 1
        assert "CREATE TABLE users" in app.test_cli_runner().invoke(args=["db", "upgrade", "--sql"]).stdout
        # Another program's.
        with closing(sqlite3.connect(tmp_path / "empty.sqlite3")) as other, other:
            other.execute("DROP TABLE audit")
        assert app.test_cli_runner().invoke(args=["db", "upgrade"]).exit_code == 1


def test_the_doctor_finds_a_database_that_takes_no_writes(app):
    with closing(sqlite3.connect(Path(app.instance_path) / "magicauth.sqlite3")) as other:
        other.execute("BEGIN IMMEDIATE")
        assert wrong(app) == ["database writes"]
    assert app.test_cli_runner().invoke(args=["doctor"]).exit_code == 0


@pytest.mark.parametrize("key", ["secret" * 10, "0123456789abcdef,ghijklmnopqrstuvwxyz"])
def test_the_doctor_warns_of_a_key_that_is_guessable_or_no_good_as_a_fallback(redis_url, tmp_path, key):
    with quiet_app(redis_url, tmp_path, SECRET_KEY=key) as app:
        result = app.test_cli_runner().invoke(args=["doctor", "--json"])
    states = {finding["check"]: finding["state"] for finding in json.loads(result.stdout)}
    assert states["SECRET_KEY"] == "warning"
    assert key not in result.stdout


def test_the_doctor_says_why_the_database_does_not_answer(redis_url, tmp_path):
    nowhere = {"DATABASE_URL": "postgresql+psycopg://magicauth@127.0.0.1:1/magicauth"}
    with quiet_app(redis_url, tmp_path, **shell_settings(redis_url, tmp_path) | nowhere) as app:
        output = app.test_cli_runner().invoke(args=["doctor", "--json"]).stdout
    words = {found["check"]: found["words"] for found in json.loads(output) if found["state"] == "wrong"}
    assert "onnection refused" in words["database"]


def test_the_doctor_warns_of_settings_that_are_not_what_they_seem(redis_url, tmp_path, monkeypatch):
    settings = {
        "MAGICAUTH_SESSION_IDLE": "9",
        "MAGICAUTH_SESSION_ABSOLUTE": "8",
        "MAGICAUTH_REMEMBER_IDLE": "9",
        "MAGICAUTH_REMEMBER_ABSOLUTE": "8",
        "MAGICAUTH_METRICS_TOKEN": "open-sesame",
        "MAGICAUTH_ALLOWED_ORIGINS": "http://app.example.org",
        "MAIL_USERNAME": "us",
    }
    monkeypatch.setenv("MAGICAUTH_SIGNUP", "closed")
    monkeypatch.setenv("MAIL_SERVR", "smtp.example.org")
    monkeypatch.setenv("MAGICAUTH_OF_ANOTHER_PROGRAM", "1")
    with quiet_app(redis_url, tmp_path, **shell_settings(redis_url, tmp_path) | settings) as app:
        output = app.test_cli_runner().invoke(args=["doctor", "--json"]).stdout
    states = {found["check"]: found["state"] for found in json.loads(output)}
    warnings = {found["check"]: found["words"] for found in json.loads(output) if found["state"] != "ok"}
    assert states["MAGICAUTH_SESSION_IDLE"] == "warning" and states["MAGICAUTH_SIGNUP"] == "wrong"
    assert states["MAGICAUTH_OF_ANOTHER_PROGRAM"] == "warning"
    assert warnings["MAGICAUTH_SESSION_IDLE"].startswith("9: longer than MAGICAUTH_SESSION_ABSOLUTE")
    assert warnings["MAGICAUTH_REMEMBER_IDLE"].startswith("9: longer than MAGICAUTH_REMEMBER_ABSOLUTE")
    assert warnings["MAGICAUTH_METRICS_TOKEN"].startswith("looks guessable")
    assert warnings["MAGICAUTH_ALLOWED_ORIGINS"].startswith("http://app.example.org: without https")
    assert warnings["mail log-in"].startswith("one without the other")
    assert warnings["MAGICAUTH_SIGNUP"] == "no setting of ours (MAGICAUTH_SIGN_UP is meant?)"
    assert warnings["MAIL_SERVR"] == "no setting of ours (MAIL_SERVER is meant?)"
    assert "sesame" not in output


class Dns(socketserver.BaseRequestHandler):
    """A name server with the records that a test gives it."""

    records: dict[str, list[str]]

    def handle(self) -> None:
        message, socket = self.request
        question = dns.message.from_wire(message)
        name = question.question[0].name
        answer = dns.message.make_response(question)
        if texts := self.records.get(name.to_text(omit_final_dot=True)):
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", *(f'"{text}"' for text in texts)))
        elif not any(known.endswith("." + name.to_text(omit_final_dot=True)) for known in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        socket.sendto(answer.to_wire(), self.client_address)


@contextmanager
def resolver_at(port):
    """dnspython's resolver of this process asks there."""
    dns.resolver.default_resolver = dns.resolver.Resolver(configure=False)
    dns.resolver.default_resolver.nameservers = ["127.0.0.1"]
    dns.resolver.default_resolver.port = port
    try:
        yield
    finally:
        dns.resolver.default_resolver = None


@contextmanager
def name_server(records):
    """The resolver asks one with these records."""
    handler = type("Handler", (Dns,), {"records": records})
    with serving(socketserver.UDPServer(("127.0.0.1", 0), handler)) as port, resolver_at(port):
        yield


WELL_KEPT = {
    "id.ada.dev": ["another=record", "v=spf1 mx -all"],
    "mail._domainkey.id.ada.dev": ["v=DKIM1; p=key"],
    "_dmarc.ada.dev": ["v=DMARC1; p=reject"],
}


@pytest.fixture
def sender(redis, redis_url, tmp_path):
    """What the doctor finds about the domain of letters, by check."""
    settings = {"MAIL_SERVER": "127.0.0.1", "MAIL_PORT": "1", "MAIL_DEFAULT_SENDER": "Ada <no-reply@id.ada.dev>"}
    with quiet_app(redis_url, tmp_path, **settings) as app:

        def find():
            result = app.test_cli_runner().invoke(args=["doctor", "--json"])
            found = {finding["check"]: (finding["state"], finding["words"]) for finding in json.loads(result.stdout)}
            return {check: found[check] for check in ("sender", "SPF", "DKIM", "DMARC") if check in found}

        yield find


def test_the_doctor_finds_the_records_of_a_senders_domain(sender):
    with name_server(WELL_KEPT):
        found = sender()
    assert found.keys() == {"SPF", "DKIM", "DMARC"}
    assert found["SPF"] == ("ok", "v=spf1 mx -all")
    assert found["DKIM"][0] == "ok" and "_domainkey.id.ada.dev" in found["DKIM"][1]
    assert found["DMARC"] == ("ok", "v=DMARC1; p=reject")


def test_the_doctor_warns_of_what_a_senders_domain_lacks(sender):
    with name_server({"id.ada.dev": ["another=record"]}):
        found = sender()
    assert {check: state for check, (state, _) in found.items()} == dict.fromkeys(("SPF", "DKIM", "DMARC"), "warning")


@pytest.mark.parametrize("texts", [["v=spf1 +all"], ["v=spf1 mx all"], ["v=spf1 mx -all", "v=spf1 a -all"]])
def test_the_doctor_warns_of_records_that_protect_nothing(sender, texts):
    with name_server(WELL_KEPT | {"id.ada.dev": texts}):
        assert sender()["SPF"][0] == "warning"


def test_the_doctor_waits_two_seconds_for_a_silent_name_server_and_finds_nothing_wrong(sender):
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        started = time.monotonic()
        with resolver_at(silent.getsockname()[1]):
            found = sender()
    assert time.monotonic() - started < 4
    assert found.keys() == {"sender"}
    assert found["sender"][0] == "warning" and "not checked" in found["sender"][1]


def test_the_doctor_asks_nobody_about_a_name_that_is_not_public(redis_url, tmp_path):
    with quiet_app(redis_url, tmp_path, MAIL_SERVER="127.0.0.1", MAIL_DEFAULT_SENDER="no-reply@id.example.org") as app:
        output = app.test_cli_runner().invoke(args=["doctor"]).stdout
    assert "not checked: id.example.org is no public name" in output


# --- when something is away ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [("sessions", "list", EMAIL), ("mail", "status"), ("mail", "retry"), ("users", "sign-out", EMAIL)]
)
def test_a_redis_that_is_away_is_one_line(app, command):
    assert app.test_cli_runner().invoke(args=["users", "create", EMAIL]).exit_code == 0
    with quiet_app("redis://127.0.0.1:1/0", app.instance_path) as lonely:
        result = lonely.test_cli_runner().invoke(args=list(command))
        assert result.exit_code == 1
        # Beside what is logged there, where an app in production mode was made before.
        (line,) = [line for line in result.stderr.splitlines() if not line.startswith("{")]
        assert line.startswith("Error: Redis is away")


# --- from a shell ----------------------------------------------------------------------------------------------------


def test_from_a_shell(redis, redis_url, tmp_path):
    """As an operator runs them: a process of its own, production's settings, standard input and exit status."""
    env = shell_settings(redis_url, tmp_path)

    def flask(*arguments, **options):
        command = [sys.executable, "-m", "flask", "--app", "wsgi", *arguments]
        return subprocess.run(
            command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, **options
        )

    upgraded = flask("db", "upgrade")
    assert upgraded.returncode == 0
    assert [json.loads(line)["message"] for line in upgraded.stderr.splitlines()] == [
        "revision 0001 applied: The users table.",
        "revision 0002 applied: The audit table.",
        "revision 0003 applied: Indexes for the filters of `flask audit`.",
    ]
    assert flask("db", "upgrade").stderr == ""
    # A stamp applies nothing.
    assert flask("db", "stamp", "0002").stderr == ""
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "users", "list", "--json"]
    with Path("/dev/full").open("w") as full:
        listed = subprocess.run(command, env=env, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    said = "Error: It could not be written or read: No space left on device.\n"
    assert (listed.returncode, listed.stderr) == (1, said)
    made = flask("users", "create", EMAIL, "--name", "Ada", "--password-stdin", input=f"{PASSWORD}\n")
    assert (made.returncode, made.stdout) == (0, f"Account made: {EMAIL}\n"), made.stderr
    assert PASSWORD not in made.stderr
    unknown = flask("users", "show", "nobody@example.org")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr.splitlines()[-1] == "Error: There is no user with the address nobody@example.org."
    assert len(unknown.stderr.splitlines()) == 1
    with closing(sqlite3.connect(env["DATABASE_URL"].removeprefix("sqlite:///"))) as database:
        ((email, password_hash),) = database.execute("SELECT email, password_hash FROM users").fetchall()
    assert email == EMAIL
    assert password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_an_invitation_that_cannot_be_recorded_is_not_sent(app, mailbox, unwritable):
    unwritable()
    assert app.test_cli_runner().invoke(args=["users", "invite", "new@example.org"]).exit_code == 1
    assert not mailbox.all("new@example.org")
