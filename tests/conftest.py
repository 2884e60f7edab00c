"""The stage: a real Redis for each test process, an app for each test, its mailbox, browsers that check every page."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dramatiq
import pytest
import redis as redis_client
from flask import Flask
from jinja2.bccache import Bucket, BytecodeCache
from pages import Browser, Letters

from magicauth import create_app, embedded
from magicauth.outbox import QUEUE

WORKER_POLL_MS = 5


class Compiled(BytecodeCache):
    """The templates as compiled once for all apps of this process: compiling is most of a first page's time."""

    def __init__(self) -> None:
        self._code: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self._code:
            bucket.bytecode_from_string(self._code[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._code[bucket.key] = bucket.bytecode_to_string()


COMPILED = Compiled()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A real server that this test process shares with nobody."""
    return embedded.url(tmp_path_factory.mktemp("redis"))


@pytest.fixture
def redis(redis_url: str) -> Iterator[Any]:
    """A client of the emptied server."""
    client = redis_client.Redis.from_url(redis_url)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def make_app(
    redis: Any, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Flask]]:
    """Makes apps in development mode with the settings given; their letters are sent until the test ends."""
    workers: list[dramatiq.Worker] = []
    apps: list[Flask] = []

    def make(**settings: Any) -> Flask:
        defaults = {
            "MAGICAUTH_MODE": "development",
            "REDIS_URL": redis_url,
            "MAGICAUTH_MAIL_WORKER": "external",
        }
        app = create_app(defaults | settings, instance_path=str(tmp_path))
        app.test_client_class = Browser
        app.jinja_env.bytecode_cache = COMPILED
        broker = app.extensions["magicauth-outbox"].broker
        worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=WORKER_POLL_MS, queues={QUEUE})
        worker.start()
        workers.append(worker)
        apps.append(app)
        return app

    yield make
    for worker in workers:
        worker.stop()
    for app in apps:
        with app.app_context():
            app.extensions["sqlalchemy"].engine.dispose()


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    """An app with the default settings."""
    return make_app()


@pytest.fixture
def client(app: Flask) -> Browser:
    """A browser that nobody has used."""
    return app.test_client()


@pytest.fixture
def mailbox(client: Browser) -> Letters:
    """The letters of the app, as `/dev/mailbox` shows them."""
    return Letters(client.application)


def wait_for(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """What `condition` returns as soon as it is true; fails after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError("waited in vain")
