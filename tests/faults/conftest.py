"""The set-up of production on this machine: gunicorn, Redis, PostgreSQL and a mail server that a test may break."""

import itertools
from collections.abc import Iterator

import httpx
import pytest
from servers import (
    SETTINGS,
    Postgres,
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
