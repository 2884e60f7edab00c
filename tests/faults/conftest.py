"""The set-up of production on this machine: gunicorn, Redis, PostgreSQL and a mail server that a test may break."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from servers import (
    SETTINGS,
    Gunicorn,
    MailServer,
    Postgres,
    Redis,
    Site,
    clean_environment,
    folder_for_sockets,
    run_flask,
    sign_up,
)

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """With a database `migrated` to copy, made as an operator does."""
    with folder_for_sockets() as folder:
        server = Postgres(folder)
        server.start()
        try:
            settings = SETTINGS | {"PUBLIC_URL": "https://id.example.org", "REDIS_URL": "redis://not-needed"}
            database = {"DATABASE_URL": server.make_database("migrated")}
            done = run_flask("db", "upgrade", env=clean_environment() | settings | database)
            assert done.returncode == 0, done.stderr
            yield server
        finally:
            server.stop()


@pytest.fixture
def redis_server() -> Iterator[Redis]:
    with folder_for_sockets() as folder:
        server = Redis(folder)
        server.start()
        yield server
        server.kill()


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    """Not open yet: it refuses connections."""
    server = MailServer()
    yield server
    server.close()


@pytest.fixture
def gunicorn(postgres: Postgres, redis_server: Redis, mail_server: MailServer, tmp_path: Path) -> Iterator[Gunicorn]:
    """Started, on stores that are empty."""
    stores = {"REDIS_URL": redis_server.url, "DATABASE_URL": postgres.make_database(tmp_path.name, "migrated")}
    server = Gunicorn(tmp_path, SETTINGS | stores | {"MAIL_PORT": str(mail_server.port)})
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def browser(gunicorn: Gunicorn) -> Iterator[httpx.Client]:
    with gunicorn.browser() as browser:
        yield browser


# --- for a module whose fixture `our` is the site that its tests share ------------------------------------------------


@pytest.fixture
def email() -> str:
    """An address that no other test has used."""
    return f"user{next(_numbers)}@example.org"


@pytest.fixture
def ada(our: Site, email: str) -> Iterator[httpx.Client]:
    """The browser of somebody who is signed in."""
    with our.gunicorn.browser() as browser:
        sign_up(browser, our.mail_server, email)
        yield browser


@pytest.fixture
def new(our: Site) -> Iterator[httpx.Client]:
    """A browser that nobody has used."""
    with our.gunicorn.browser() as browser:
        yield browser
