"""The stage: a real Redis and the apps of each test process, empty for each test; browsers that check every page."""

import functools
import gc
import importlib.util
import itertools
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis as redis_client
from argon2 import PasswordHasher
from flask import Flask
from instruments import close, new_app
from pages import Browser, Letters, sign_up
from sqlalchemy import event

from magicauth import audit, embedded, outbox, passwords
from magicauth.extensions import db
from magicauth.models import Action
from magicauth.outbox import Outbox

# Until everything is collected, which the process that hands out the tests never hears of.
if "PYTEST_XDIST_WORKER" in os.environ:
    gc.disable()

# So often a worker looks whether it is to stop.
WORKER_POLL_MS = 10


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Three for each core: while one waits for a letter, a browser or a server that is killed, another works."""
    return 3 * (os.cpu_count() or 1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Has pytest rewrite the asserts of new tests once, by two processes, where each of six would do it for itself."""
    new = [str(path) for path in Path(__file__).parent.rglob("test_*.py") if not _is_rewritten(path)]
    command = [sys.executable, "-m", "pytest", "-n", "0", "--collect-only", "-p", "no:cacheprovider"]
    if len(new) > 4:
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        halves = [
            subprocess.Popen([*command, *half], env=environ, cwd=config.rootpath, stdout=subprocess.DEVNULL)
            for half in (new[::2], new[1::2])
        ]
        for half in halves:
            half.wait()


def _is_rewritten(path: Path) -> bool:
    kept = path.parent / "__pycache__" / f"{path.stem}.{sys.implementation.cache_tag}-pytest-{pytest.__version__}.pyc"
    # PEP 552: after the magic number and the flags, the hash of the source.
    return kept.exists() and kept.read_bytes()[8:16] == importlib.util.source_hash(path.read_bytes())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each process begins with its share of the slow tests, so that none is left alone with them at the end. One in
    three starts a browser, the others start servers: what the tests of a process share is started once for each."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    with_browser = max(1, processes // 3)
    if processes == with_browser:
        return
    browser = [item for item in items if item.get_closest_marker("browser")]
    faults = [item for item in items if item.get_closest_marker("faults")]
    shares = [_share(browser, number, with_browser) for number in range(with_browser)]
    shares += [_share(faults, number, processes - with_browser) for number in range(processes - with_browser)]
    quick = iter([item for item in items if item not in {*browser, *faults}])
    each = len(items) // processes
    for share in shares:
        share += itertools.islice(quick, max(0, each - len(share)))
    items[:] = [*itertools.chain(*shares), *quick]


def pytest_collection_finish() -> None:
    """What was collected stays: looking for garbage among it again and again takes a seventh of the time."""
    gc.freeze()
    gc.enable()


def _share(items: list[pytest.Item], number: int, of: int) -> list[pytest.Item]:
    return items[len(items) * number // of : len(items) * (number + 1) // of]


@pytest.fixture(scope="session", autouse=True)
def _cheap_hashes() -> Iterator[None]:
    """What a hash costs, a fifth of the time of all tests, is for the processes that the tests start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_hasher", PasswordHasher(memory_cost=8, time_cost=1, parallelism=1))
        yield


@pytest.fixture(scope="session", autouse=True)
def _quick_stops() -> Iterator[None]:
    """A worker that is stopped is waited for as long as it takes to look whether it is to stop."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outbox, "_POLL_MS", WORKER_POLL_MS)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_guess_twice() -> Iterator[None]:
    """What zxcvbn makes of the same password is the same, and takes it as long as a sign-up takes all else."""
    guess = functools.cache(passwords._guess)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_guess", lambda password, words: guess(password, tuple(words)))
        yield


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A real server that this test process shares with nobody."""
    return embedded.url(tmp_path_factory.mktemp("redis"))


@pytest.fixture(scope="session")
def whole_redis(redis_url: str) -> Iterator[Any]:
    """A client of it."""
    with redis_client.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def redis(whole_redis: Any) -> Any:
    """A client of the emptied server."""
    whole_redis.flushall()
    return whole_redis


class Stage:
    """The apps of a test process, made once for each group of settings: making one takes longer than most tests. All
    share an instance folder, and so a database and a mailbox, as the processes of one deployment do."""

    def __init__(self, redis_url: str, instance: Path) -> None:
        self.instance = instance
        self._redis_url = redis_url
        self._apps: dict[tuple[tuple[str, Any], ...], Flask] = {}

    def clear(self) -> None:
        """Leaves nothing of the test before."""
        shutil.rmtree(self.instance / "mailbox", ignore_errors=True)
        if (self.instance / "magicauth.sqlite3").exists():
            with closing(sqlite3.connect(self.instance / "magicauth.sqlite3")) as database:
                # Looking into it may have made the file before an app did.
                tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
                for table in {"users", "audit"} & tables:
                    database.execute(f"DELETE FROM {table}")
                database.commit()

    def app(self, **settings: Any) -> Flask:
        """The app with these settings."""
        key = tuple(sorted(settings.items()))
        if key not in self._apps:
            self._apps[key] = self.new_app(**settings)
        return self._apps[key]

    def new_app(self, **settings: Any) -> Flask:
        """An app that no other test has seen."""
        return new_app(self._redis_url, self.instance, **settings)

    def close(self) -> None:
        """Closes what the apps have open."""
        for app in self._apps.values():
            close(app)


@pytest.fixture(scope="session")
def whole_stage(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Of all tests of this process."""
    stage = Stage(redis_url, tmp_path_factory.mktemp("instance"))
    yield stage
    stage.close()


@pytest.fixture
def stage(whole_stage: Stage, redis: Any) -> Stage:
    """Emptied for this test."""
    whole_stage.clear()
    return whole_stage


@pytest.fixture
def new_apps() -> Iterator[list[Flask]]:
    """Apps that are closed when the test ends, after their mail workers: one of those would open what is closed."""
    apps: list[Flask] = []
    yield apps
    for app in apps:
        close(app)


@pytest.fixture
def send_letters(new_apps: list[Flask]) -> Iterator[Callable[[Flask], Flask]]:
    """Sends the letters of an app until the test ends; most tests need none, and no worker is started for them."""
    outboxes: list[Outbox] = []

    def send(app: Flask) -> Flask:
        box: Outbox = app.extensions["magicauth-outbox"]
        if box not in outboxes:
            outboxes.append(box)
            enqueue = box.broker.enqueue_once

            def start_and_enqueue(message: Any, *, delay: int | None = None) -> Any:
                box.start_worker(threads=1)
                return enqueue(message, delay=delay)

            box.broker.enqueue_once = start_and_enqueue
        return app

    yield send
    for box in outboxes:
        del box.broker.enqueue_once
        if box.has_worker:
            box.stop_worker()
            # What the worker added: the next test's would be one more.
            del box.broker.middleware[-1]


@pytest.fixture
def make_app(stage: Stage, send_letters: Callable[[Flask], Flask]) -> Callable[..., Flask]:
    """Makes apps in development mode with the settings given; their letters are sent until the test ends."""

    def make(**settings: Any) -> Flask:
        return send_letters(stage.app(**settings))

    return make


@pytest.fixture
def make_new_app(stage: Stage, send_letters: Callable[[Flask], Flask], new_apps: list[Flask]) -> Callable[..., Flask]:
    """Makes such apps for a test that adds to them, or starts one again, or wants a database of its own."""

    def make(**settings: Any) -> Flask:
        new_apps.append(stage.new_app(**settings))
        return send_letters(new_apps[-1])

    return make


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    """An app with the default settings."""
    return make_app()


@pytest.fixture
def client(app: Flask) -> Browser:
    """A browser that nobody has used."""
    return app.test_client()


@pytest.fixture
def ada(client: Browser) -> Browser:
    """Ada's browser, signed in."""
    sign_up(client)
    return client


@pytest.fixture
def mailbox(client: Browser) -> Letters:
    """The letters of the app, as `/dev/mailbox` shows them."""
    return Letters(client.application)


def wait_for(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """What `condition` returns as soon as it is true; fails after `seconds`."""
    end, pause = time.monotonic() + seconds, 0.01
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(pause)
        # What takes seconds is not asked for a hundred times in each.
        pause = min(0.1, pause * 1.2)
    raise AssertionError("waited in vain")


@pytest.fixture
def full(redis: Any) -> Callable[[], AbstractContextManager[None]]:
    """Inside its block Redis has no memory left: it reads and deletes, and keeps nothing new."""

    @contextmanager
    def fill() -> Iterator[None]:
        redis.config_set("maxmemory", "1")
        try:
            yield
        finally:
            redis.config_set("maxmemory", "0")

    return fill


@pytest.fixture
def unwritable(app: Flask) -> Iterator[Callable[[], Any]]:
    """Once called, nobody can write to the app's database until the test ends."""

    def wait_no_longer(connection: Any, *_: Any) -> None:
        connection.execute("PRAGMA busy_timeout=20")

    with app.app_context():
        engine = db.engine
    event.listen(engine, "checkout", wait_no_longer)
    with closing(sqlite3.connect(Path(app.instance_path) / "magicauth.sqlite3", isolation_level=None)) as operator:
        yield lambda: operator.execute("BEGIN IMMEDIATE")
    event.remove(engine, "checkout", wait_no_longer)
    # Else the next test's connections would wait no longer either.
    engine.dispose()


@pytest.fixture
def overtaken(monkeypatch: pytest.MonkeyPatch) -> Callable[[Action, Callable[[], Any]], None]:
    """Lets a request come in, and be answered, just before the next commit of an action: it was quicker."""

    def let(action: Action, act: Callable[[], Any]) -> None:
        quicker, commit = [act], audit.commit

        def commit_later(committed: Action, *arguments: Any, **options: Any) -> None:
            if committed == action and quicker:
                quicker.pop()()
            commit(committed, *arguments, **options)

        monkeypatch.setattr(audit, "commit", commit_later)

    return let
