"""What operators do to a site that people use: new keys, backups, restores, migrations, a move to other stores."""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from conftest import close, wait_for
from instruments import change_user, delivering, later, quiet_app
from pages import EMAIL, PASSWORD, Browser, Letters, is_signed_in, other_browser, sign_in, sign_up
from servers import ROOT, Postgres, clean_environment, folder_for_sockets, run_flask
from sqlalchemy import text

from magicauth import migrating
from magicauth.extensions import db
from magicauth.models import AuditEvent, User

OLD, NEW = "the old key of the tests: 32 characters", "the new key of the tests: 32 characters"
OTHER_PASSWORD = "quite another passphrase"
GRACE = "grace@example.org"
WITH_THEIR_PROGRAMS = pytest.mark.skipif(
    not all(map(shutil.which, ("sqlite3", "psql"))), reason="sqlite3 or psql is not installed"
)
EXPAND = """
revision = "9999"
down_revision = "{head}"

import sqlalchemy as sa
from alembic import op


def upgrade():
    op.add_column("users", sa.Column("nickname", sa.String(40), nullable=True))


def downgrade():
    op.drop_column("users", "nickname")
"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with folder_for_sockets() as folder:
        server = Postgres(folder)
        server.start()
        yield server
        server.stop()


@pytest.fixture
def run(redis, redis_url, tmp_path) -> Iterator[Callable[..., Any]]:
    """Starts the site again with other settings, as one more process of it."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(quiet_app(redis_url, tmp_path / "instance", **settings))


def moved(browser: Browser, app: Any) -> Browser:
    """The same browser, when that process answers it."""
    there: Browser = app.test_client()
    for name in ("magicauth", "magicauth-device"):
        if cookie := browser.get_cookie(name):
            there.set_cookie(name, cookie.value)
    return there


def commands(heading: str) -> list[str]:
    """What docs/operating.md tells the operator to type, under that heading: each block that is marked as such."""
    text = (ROOT / "docs/operating.md").read_text()
    section = re.split(r"^## ", text.split(f"\n## {heading}\n")[1], flags=re.MULTILINE)[0]
    return re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


def shell(lines: str, folder: Path, **env: str) -> None:
    """Types them into a shell where `flask` is ours."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    own = {"PATH": path, "FLASK_APP": str(ROOT / "wsgi.py"), "FLASK_SKIP_DOTENV": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", lines],
        env=clean_environment() | own | env,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# --- another secret key ----------------------------------------------------------------------------------------------


def test_a_new_secret_key_signs_nobody_out_and_lets_what_is_in_flight_arrive(run, redis):
    with delivering(first := run(SECRET_KEY=OLD)):
        ada = first.test_client()
        sign_up(ada)
        asking = first.test_client()
        asking.post("/auth", data={"email": EMAIL, "password": PASSWORD})
        code = Letters(first).last(EMAIL).code
        first.test_client().post("/users/magic_link", data={"email": GRACE})
        link = Letters(first).last(GRACE)
    # Every process knows the new key before one uses it: they are not restarted all at once.
    learning = run(SECRET_KEY=OLD, SECRET_KEY_FALLBACKS=NEW)
    using = run(SECRET_KEY=NEW, SECRET_KEY_FALLBACKS=OLD)
    assert is_signed_in(moved(ada, learning)) and is_signed_in(moved(ada, using))
    assert moved(asking, using).post("/verify", data={"OTP": code}).location == "/home"
    with delivering(learning):
        early = using.test_client()
        early.post("/auth", data={"email": EMAIL, "password": PASSWORD})
        # Beside it comes the warning of the sign-in before.
        early_code = next(letter.code for letter in Letters(using).all(EMAIL) if letter.code)
    assert early_code != code
    assert moved(early, learning).post("/verify", data={"OTP": early_code}).location == "/home"
    with delivering(using):
        grace = using.test_client()
        form = {"token": link.token, "name": "Grace", "password": PASSWORD}
        assert grace.post("/users/signup", data=form).location == "/home"


def test_a_browser_that_an_account_knows_is_known_under_a_new_secret_key(run):
    with delivering(first := run(SECRET_KEY=OLD)):
        ada = first.test_client()
        sign_up(ada)
        ada.post("/logout")
    with delivering(using := run(SECRET_KEY=NEW, SECRET_KEY_FALLBACKS=OLD)):
        before = len(Letters(using).all(EMAIL))
        assert sign_in(moved(ada, using)).location == "/home"
        # The code alone: to a browser that the account does not know, a warning would follow.
        assert len(Letters(using).all(EMAIL)) == before + 1
        assert sign_in(using.test_client()).location == "/home"
        assert len(Letters(using).all(EMAIL)) == before + 3


def test_a_key_that_is_taken_out_ends_the_links_it_made_and_no_session(run):
    with delivering(first := run(SECRET_KEY=OLD)):
        ada = first.test_client()
        sign_up(ada)
        asking = first.test_client()
        asking.post("/auth", data={"email": EMAIL, "password": PASSWORD})
        letter = Letters(first).last(EMAIL)
    with delivering(last := run(SECRET_KEY=NEW)):
        assert is_signed_in(moved(ada, last))
        assert moved(asking, last).post("/verify", data={"OTP": letter.code}).status_code == 404
        assert moved(asking, last).post("/auth/link", data={"token": letter.token}).status_code == 403
        assert sign_in(last.test_client()).location == "/home"


# --- backup and restore ----------------------------------------------------------------------------------------------


@WITH_THEIR_PROGRAMS
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_restored_database_with_an_emptied_redis(database, run, redis, postgres, tmp_path):
    settings = {} if database == "sqlite" else {"DATABASE_URL": postgres.make_database("restored")}
    backup_small, backup_large, restore_small, restore_large = commands("Backup and restore")
    with delivering(app := run(**settings)):
        ada, grace = app.test_client(), app.test_client()
        sign_up(ada)
        shell(backup_large if settings else backup_small, tmp_path, **settings)
        sign_up(grace, GRACE)
        change_password(ada)
    close(app)
    shell(restore_large if settings else restore_small, tmp_path, **settings)
    redis.flushall()
    with delivering(app := run(**settings)):
        for browser in (moved(ada, app), moved(grace, app)):
            assert browser.get("/home").location == "/auth?next=/home"
            assert browser.get("/auth").status_code == 200
        # What was done after the backup is undone.
        assert sign_in(moved(ada, app)).location == "/home"
        assert sign_up(app.test_client(), GRACE).location == "/home"


def test_sessions_of_a_redis_that_was_not_emptied_open_no_account_of_a_restored_database(run, redis, tmp_path):
    with delivering(app := run()):
        ada, grace = app.test_client(), app.test_client()
        sign_up(ada)
        sign_up(grace, GRACE)
        change_password(ada)
    with app.app_context():
        # As they were before: no Grace, and Ada's first epoch.
        db.session.delete(User.by_email(GRACE))
        db.session.commit()
    change_user(app, session_epoch=1)
    with later(redis, 61):
        assert not is_signed_in(ada) and not is_signed_in(grace)


def test_a_redis_restored_from_an_old_copy_revives_no_session_that_a_new_password_ended(run, redis):
    with delivering(app := run()):
        ada = app.test_client()
        sign_up(ada)
        thief = other_browser(ada)
        sign_in(thief)
        copy = {key: (redis.pttl(key), redis.dump(key)) for key in redis.scan_iter("magicauth:*")}
        change_password(ada)
        assert not is_signed_in(thief)
        # None is under way any more.
        assert Letters(app).last(EMAIL)
        redis.flushall()
        for key, (life, value) in copy.items():
            redis.restore(key, max(0, life), value)
        with later(redis, 61):
            assert not is_signed_in(moved(thief, app))
        assert sign_in(ada, password=OTHER_PASSWORD).location == "/home"


def change_password(browser: Browser) -> None:
    form = {"old_password": PASSWORD, "password": OTHER_PASSWORD}
    answer = browser.post("/account/password", data=form)
    assert answer.status_code == 303, answer.text


# --- migrations ------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path) -> str:
    """The URL of a database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'served.sqlite3'}"
    url: str = request.getfixturevalue("postgres").make_database(tmp_path.name)
    return url


@pytest.fixture
def app(database, run) -> Iterator[Any]:
    """The code of today on that database, with its tables."""
    with delivering(app := run(DATABASE_URL=database)):
        yield app


@pytest.fixture
def flask(app) -> Callable[..., None]:
    """Runs a command of the site, which must end well."""

    def run(*arguments: str) -> None:
        done = app.test_cli_runner().invoke(args=arguments)
        assert done.exit_code == 0, (done.output, done.exception)

    return run


@pytest.fixture
def next_release(tmp_path) -> Path:
    """The revisions of a later release, with one that adds a column."""
    folder = tmp_path / "next_release"
    shutil.copytree(ROOT / "migrations", folder, ignore=shutil.ignore_patterns("__pycache__"))
    head = max(re.findall(r'^revision = "(\w+)"', path.read_text(), re.MULTILINE)[0] for path in versions(folder))
    (folder / "versions" / "9999_expand.py").write_text(EXPAND.format(head=head))
    return folder


def add_to(release: Path, statement: str) -> None:
    """Has its revision do this first."""
    revision = versions(release)[-1]
    revision.write_text(revision.read_text().replace("def upgrade():\n", f"def upgrade():\n    {statement}\n"))


def versions(folder: Path) -> list[Path]:
    return sorted((folder / "versions").glob("*.py"))


def test_the_models_are_what_the_revisions_make(flask):
    flask("db", "check")


def test_development_asks_alembic_only_where_there_is_something_to_do(app, database, run, monkeypatch):
    with app.app_context(), db.engine.connect() as connection:
        current, newest, _ = migrating.revisions(connection)
        assert current == newest
    asked, load = [], migrating._load
    monkeypatch.setattr(migrating, "_load", lambda app: asked.append(app) or load(app))
    run(DATABASE_URL=database)
    assert asked == []
    for statement in (
        "DROP INDEX ix_audit_result_id",
        "DROP INDEX ix_audit_action_id",
        "UPDATE alembic_version SET version_num = '0002'",
    ):
        with app.app_context():
            db.session.execute(text(statement))
            db.session.commit()
    run(DATABASE_URL=database)
    assert len(asked) == 1
    with app.app_context(), db.engine.connect() as connection:
        assert migrating.revisions(connection)[0] == newest


def test_the_code_of_today_serves_while_a_later_release_adds_a_column_and_takes_it_back(app, flask, next_release):
    ada = app.test_client()
    sign_up(ada)
    answers: Counter[Any] = Counter()
    over = threading.Event()

    def visit() -> None:
        browser = moved(ada, app)
        while not over.is_set():
            answers[browser.get("/account").status_code] += 1
            answers[browser.post("/account", data={"name": "Ada", "phone": ""}).status_code] += 1

    visitors = [threading.Thread(target=visit) for _ in range(2)]
    for visitor in visitors:
        visitor.start()
    try:
        for command in ("upgrade", "downgrade", "upgrade"):
            flask("db", command, "--directory", str(next_release))
            enough = answers.total() + 10
            wait_for(lambda enough=enough: answers.total() >= enough)
        assert sign_up(app.test_client(), GRACE).location == "/home"
    finally:
        over.set()
        for visitor in visitors:
            visitor.join()
    assert set(answers) == {200, 303}, answers
    users, events = (everything(app, table) for table in (User, AuditEvent))
    assert {user["email"]: user["name"] for user in users} == {EMAIL: "Ada", GRACE: "Ada Lovelace"}
    assert {event["action"] for event in events} >= {"user:signed_up"}


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_revision_may_take_its_time_but_keeps_nobody_waiting_for_a_lock(app, flask, next_release, postgres, tmp_path):
    revision = versions(next_release)[-1]
    any_time = "    op.execute(\"DO $$ BEGIN ASSERT current_setting('statement_timeout') = '0'; END $$\")\n"
    revision.write_text(revision.read_text().replace("def upgrade():\n", "def upgrade():\n" + any_time))
    with postgres.connect(tmp_path.name) as somebody:
        somebody.autocommit = False
        somebody.execute("SELECT count(*) FROM users")
        # It waits for whoever reads in a transaction that does not end, and all who come later wait behind it.
        with pytest.raises(AssertionError, match="lock timeout"):
            flask("db", "upgrade", "--directory", str(next_release))
        assert sign_up(app.test_client()).location == "/home"
        somebody.rollback()
    flask("db", "upgrade", "--directory", str(next_release))


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_of_machines_that_start_at_once_one_migrates(app, flask, next_release, postgres, tmp_path):
    add_to(next_release, 'op.execute("SELECT pg_sleep(0.5)")')
    command = ("db", "upgrade", "--directory", str(next_release))
    settings = {"PUBLIC_URL": "https://id.example.org", "SECRET_KEY": NEW, "MAIL_SERVER": "127.0.0.1"}
    stores = {name: app.config[name] for name in ("DATABASE_URL", "REDIS_URL")}
    with ThreadPoolExecutor() as pool:
        other = pool.submit(run_flask, *command, env=clean_environment() | settings | stores)
        sleeping = "SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(0.5)' AND state = 'active'"
        wait_for(lambda: postgres.rows(tmp_path.name, sleeping))
        flask(*command)
        assert other.result().returncode == 0, other.result().stderr


# --- a move to other stores ------------------------------------------------------------------------------------------


@WITH_THEIR_PROGRAMS
def test_a_move_from_the_embedded_set_up_to_postgresql_and_redis(run, redis, redis_url, postgres, tmp_path):
    with delivering(before := run()):
        ada = before.test_client()
        sign_up(ada, name='Ada "the first", Countess of Lovelace é')
        sign_up(before.test_client(), GRACE)
    # What is empty stays so, and does not become nothing.
    change_user(before, GRACE, name="", phone="+44 1", is_admin=True)
    redis.flushall()
    stores = {"DATABASE_URL": postgres.make_database("moved"), "REDIS_URL": redis_url}
    secret_key = (tmp_path / "instance" / "secret_key").read_text()
    others = {"SECRET_KEY": secret_key, "PUBLIC_URL": "https://id.example.org", "MAIL_SERVER": "127.0.0.1"}
    (copy,) = commands("From the embedded set-up to PostgreSQL and Redis")
    shell(copy, tmp_path, **stores, **others)
    with delivering(after := run(**stores)):
        for table in (User, AuditEvent):
            assert everything(after, table) == everything(before, table)
        assert not is_signed_in(moved(ada, after))
        assert sign_in(moved(ada, after)).location == "/home"


def everything(app: Any, table: type[User] | type[AuditEvent]) -> list[dict[str, Any]]:
    """Every value of every row."""
    with app.app_context():
        rows = db.session.scalars(db.select(table).order_by(table.id))
        return [{column.name: getattr(row, column.name) for column in table.__table__.columns} for row in rows]
