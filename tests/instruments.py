"""Instruments: requests at once, commands and statements counted, a clock that moves, an app whose letters wait."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import time_machine
from flask import Flask
from flask.testing import FlaskClient
from jinja2.bccache import Bucket, BytecodeCache
from pages import EMAIL, Browser
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy import event

from magicauth import create_app
from magicauth.extensions import db
from magicauth.models import User

R = TypeVar("R")


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


def at_once(count: int, act: Callable[[int], R]) -> list[R]:
    """What `act` returns for 0 … count-1, each called on a thread of its own, all released together."""
    gate = threading.Barrier(count)

    def wait_and_act(number: int) -> R:
        gate.wait()
        return act(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(wait_and_act, range(count)))


def in_context(app: Flask, act: Callable[[int], R], count: int) -> list[R]:
    """The same, each with the app's context: for what a store does outside of a request."""

    def with_context(number: int) -> R:
        with app.app_context():
            return act(number)

    return at_once(count, with_context)


def same_browser(client: FlaskClient) -> FlaskClient:
    """Another tab of the browser: the same cookies now, to be used from another thread."""
    tab = client.application.test_client()
    for name in ("magicauth", "magicauth-device"):
        if cookie := client.get_cookie(name):
            tab.set_cookie(name, cookie.value)
    return tab


def session_id(client: FlaskClient) -> str:
    """The value of the browser's session cookie, or ""."""
    cookie = client.get_cookie("magicauth")
    return cookie.value if cookie else ""


def change_user(app: Flask, email: str = EMAIL, **fields: Any) -> None:
    """Writes columns of an account, as an operator's command would."""
    with app.app_context():
        user = User.by_email(email)
        for name, value in fields.items():
            setattr(user, name, value)
        db.session.commit()


def raise_epoch(app: Flask, email: str = EMAIL) -> None:
    """What a changed password or address does to sessions and open challenges."""
    with app.app_context():
        user = User.by_email(email)
        user.session_epoch += 1
        db.session.commit()


@contextmanager
def later(redis: Any, seconds: float) -> Iterator[None]:
    """The world `seconds` from now: the app's clock has moved, and Redis has expired what will have expired by then."""
    for key in redis.scan_iter():
        left = redis.pttl(key)
        if left >= 0:
            redis.pexpire(key, int(left - seconds * 1000))
    with time_machine.travel(time.time() + seconds):
        yield


def new_app(redis_url: str, instance: Path | str, **settings: Any) -> Flask:
    """An app in development mode whose letters wait in the queue until somebody sends them."""
    defaults = {"MAGICAUTH_MODE": "development", "REDIS_URL": redis_url, "MAGICAUTH_MAIL_WORKER": "external"}
    app = create_app(defaults | settings, instance_path=str(instance))
    app.test_client_class = Browser
    app.jinja_env.bytecode_cache = COMPILED
    return app


def close(app: Flask) -> None:
    """Closes what the app has open."""
    app.extensions["magicauth-redis"].close()
    with app.app_context():
        db.engine.dispose()


@contextmanager
def quiet_app(redis_url: str, instance: Path | str, **settings: Any) -> Iterator[Flask]:
    """One that is closed afterwards. `delivering` runs its worker."""
    app = new_app(redis_url, instance, **settings)
    yield app
    close(app)


@contextmanager
def delivering(app: Flask) -> Iterator[None]:
    """Runs the app's own worker inside the block."""
    app.extensions["magicauth-outbox"].start_worker()
    try:
        yield
    finally:
        app.extensions["magicauth-outbox"].stop_worker()


def letters_waiting(redis: Any) -> int:
    """Letters in the queue, or put off. Counted in one step: a letter on its way between the two is in one of them."""
    pipeline = redis.pipeline(transaction=True)
    for part in ("letters", "letters.DQ"):
        pipeline.hlen(f"{{magicauth-mail}}:{part}.msgs")
    return sum(pipeline.execute())


@contextmanager
def redis_commands(redis: Any) -> Iterator[list[str]]:
    """Fills the list with every command that clients send to the server inside the block, in order: the name, and of a
    script which one. What scripts do inside is not counted."""
    sent: list[str] = []
    with redis.monitor() as monitor:

        def heard_until(mark: str) -> Iterator[str]:
            redis.echo(mark)
            for heard in monitor.listen():
                words = heard["command"].split(" ")
                if words == ["ECHO", mark]:
                    return
                if heard["client_type"] != "lua":
                    yield f"EVALSHA {words[1]}" if words[0] == "EVALSHA" else words[0]

        list(heard_until("begin"))
        yield sent
        sent += heard_until("end")


@contextmanager
def failing(app: Flask, command: str, key: str = "", *, runs: bool = False, times: int = 1) -> Iterator[None]:
    """Inside the block the connection breaks at the next commands of that name whose key begins so, on this thread:
    before they reach Redis, or where it `runs` them, before their answer is here."""
    client, thread = app.extensions["magicauth-redis"], threading.current_thread()
    execute, left = client.execute_command, times

    def execute_command(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        is_meant = arguments[0] == command and threading.current_thread() is thread
        if left == 0 or not is_meant or not str(arguments[3 if command == "EVALSHA" else 1]).startswith(key):
            return execute(*arguments, **options)
        left -= 1
        if runs:
            execute(*arguments, **options)
        raise RedisConnectionError

    client.execute_command = execute_command
    try:
        yield
    finally:
        del client.execute_command
    assert left == 0, f"{command} {key} was not asked for"


@contextmanager
def sql_statements(app: Flask) -> Iterator[list[str]]:
    """Fills the list with every statement sent to the app's database inside the block."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(re.sub(r"\s+", " ", statement))

    with app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", note)
