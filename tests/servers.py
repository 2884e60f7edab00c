"""Real servers: Redis, PostgreSQL, a mail server and gunicorn, each on a socket of its own and gone with its test."""

import asyncio
import contextlib
import email
import email.policy
import os
import pwd
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest
import redis as redis_client
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP
from conftest import wait_for
from pages import EMAIL, JSON, PASSWORD, Letter

from magicauth import embedded

ROOT = Path(__file__).parent.parent
# As operators start it; `python -m gunicorn` could not start itself anew for USR2.
GUNICORN = str(Path(sys.executable).with_name("gunicorn"))
# Of production, besides what each test has of its own.
SETTINGS = {
    "SECRET_KEY": "32 characters or more that nobody knows",
    "MAIL_SERVER": "127.0.0.1",
    "MAGICAUTH_LIMIT_MAILS_PER_IP": "1000 per hour",
    "MAGICAUTH_METRICS_TOKEN": "for the tests",
}
# On a busy machine; nothing waits longer than it must.
PATIENCE = 60.0
# Our servers speak plain HTTP. httpx would read every certificate of the machine for each browser, which takes longer
# than a sign-in.
NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Process:
    """A program with the processes it starts, as one group; its output is in a file."""

    def __init__(self, command: list[str], log: Path, *, env: Mapping[str, str] | None = None, **options: Any) -> None:
        self._log = log
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env=env,
                **options,
            )
        self.pid = self._popen.pid

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def status(self) -> int | None:
        """What it exited with; None while it runs."""
        return self._popen.poll()

    @property
    def members(self) -> list[int]:
        """Every living process of the group."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, _, group = entry.read_text().rpartition(")")[2].split()[:3]
                if int(group) == self.pid and state != "Z":
                    found.append(int(entry.parent.name))
        return sorted(found)

    def signal(self, number: signal.Signals) -> None:
        """Tells the program itself."""
        self._popen.send_signal(number)

    def wait(self, seconds: float) -> int:
        """Its exit status. Fails if it does not end in time."""
        return self._popen.wait(seconds)

    def kill(self) -> None:
        """kill -9 of the whole group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()


class Redis:
    """Redis as production should have it: with an append-only file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = folder / "redis.sock"
        self.url = f"unix://{self._socket}"
        self.client = redis_client.Redis.from_url(self.url)

    def start(self) -> None:
        self._begin()
        wait_for(self._answers, PATIENCE)

    def kill(self) -> None:
        self._process.kill()

    @contextlib.contextmanager
    def hung(self) -> Iterator[None]:
        """Inside the block it takes connections and commands, and answers none."""
        with stopped([self._process.pid]):
            yield

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """Starts it; inside the block it is still reading its file."""
        slowly = {"key-load-delay": "20000", "loading-process-events-interval-bytes": "1024"}
        self._begin(**slowly)
        wait_for(self._loads, PATIENCE)
        yield
        assert self._loads()
        self.client.config_set("key-load-delay", "0")
        wait_for(self._answers, PATIENCE)

    @contextlib.contextmanager
    def on_a_full_disk(self) -> Iterator[None]:
        """Inside the block its file grows no more."""
        file = max(self._folder.glob("appendonlydir/*.aof"), key=lambda file: file.stat().st_mtime)
        with no_file_grows_over(self._process.pid, file.stat().st_size):
            yield

    def rewrite_file(self) -> None:
        """Has it write its file anew, as it does by itself when much was appended."""
        self.client.bgrewriteaof()
        wait_for(lambda: not self.client.info("persistence")["aof_rewrite_in_progress"], PATIENCE)

    def _begin(self, **more: str) -> None:
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "dir": str(self._folder),
            "save": "",
            "appendonly": "yes",
            # By default it puts writes off for up to two seconds while the disk is slow, and loses them where it is
            # killed then. What it has written the kernel keeps.
            "appendfsync": "no",
            "maxmemory-policy": "noeviction",
            **more,
        }
        command = [redis_binary(), *(part for name, value in options.items() for part in (f"--{name}", value))]
        # Where no file may grow it is to see an error, and not to be killed: Python ignores that signal.
        log = self._folder / "redis.log"
        self._process = Process(command, log, cwd=self._folder, restore_signals=False)

    def _answers(self) -> bool:
        with contextlib.suppress(redis_client.RedisError):
            return bool(self.client.ping())
        return False

    def _loads(self) -> bool:
        try:
            self.client.ping()
        except redis_client.BusyLoadingError:
            return True
        except redis_client.ConnectionError:
            return False
        return False


class Postgres:
    """A PostgreSQL of its own, as the user that Debian made for it where the tests run as root (it refuses root)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._bin = _postgres_binaries()
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def start(self) -> None:
        if not self._data.exists():
            make = [self._bin / "initdb", "-D", self._data, "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8"]
            subprocess.run(
                [*make, "--locale=C.UTF-8"], check=True, capture_output=True, cwd=self._folder, timeout=60, **self._as
            )
        command = [self._bin / "postgres", "-D", self._data, "-k", self._folder, "-h", "", "-F"]
        log = self._folder / "postgres.log"
        self._process = Process([str(part) for part in command], log, cwd=self._folder, **self._as)
        wait_for(self.answers, PATIENCE)

    def make_database(self, name: str, template: str = "template1", options: str = "") -> str:
        """The URL of a new database, a copy of `template`."""
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            # Of a module whose tests came in two turns.
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" {options}')
        return self.url(name)

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://postgres@/{name}?host={self._folder}"

    def connect(self, name: str) -> psycopg.Connection[Any]:
        """A connection of an operator, where every statement counts at once."""
        return psycopg.connect(self._address(name), autocommit=True)

    def rows(self, name: str, query: str) -> list[Any]:
        """What a query answers in that database."""
        with self.connect(name) as connection:
            return connection.execute(query).fetchall()

    @contextlib.contextmanager
    def hung(self) -> Iterator[None]:
        """Inside the block it takes connections and statements, and answers none."""
        with stopped([self._process.pid, *(child.pid for child in psutil.Process(self._process.pid).children())]):
            yield

    def stop(self) -> None:
        """Ends it with the processes it started, which are in groups of their own."""
        self._process.signal(signal.SIGQUIT)
        self._process.wait(PATIENCE)

    def _address(self, name: str) -> str:
        return f"host={self._folder} user=postgres dbname={name}"

    def answers(self) -> bool:
        """Whether it takes connections."""
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(self._address("postgres")).close()
            return True
        return False


class MailServer:
    """Takes letters and keeps them, once it is opened; until then it refuses connections at its port.

    `answer` is what it says to a letter, `answering` whether it says anything yet. Letters that it was `offered`, and
    `messages` that it took.
    """

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.offered: list[Any] = []
        self.messages: list[Any] = []
        self.answer = "250 OK"
        self.answering = threading.Event()
        self.answering.set()
        self._server: SmtpServer | None = None

    def open(self) -> None:
        self._server = SmtpServer(self._socket, self)
        self._server.start()

    def close(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None
        self._socket.close()

    @property
    def is_talking(self) -> bool:
        """Whether it has still to answer somebody, who may be dead."""
        return self._server is not None and self._server.is_talking

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.offered.append(message)
        await asyncio.to_thread(self.answering.wait)
        if self.answer.startswith("250"):
            self.messages.append(message)
        return self.answer

    def letter(self, to: str, number: int = 1) -> Letter:
        """Waits for the `number`-th letter to that address."""
        message = wait_for(
            lambda: [message for message in self.messages if message["To"] == to][number - 1 :], PATIENCE
        )[0]
        text = message.get_body(("plain",)).get_content()
        subject = str(message["Subject"])
        code = re.match(r"[0-9][0-9 ]+[0-9]", subject)
        return Letter(
            to=to,
            subject=subject,
            text=text,
            html=message.get_body(("html",)).get_content(),
            links=re.findall(r"https?://[^\s<>\"]+", text),
            code=code[0].replace(" ", "") if code else "",
            sent_at=str(message["Date"]),
        )


@contextlib.contextmanager
def no_file_grows_over(pid: int, size: int) -> Iterator[None]:
    """What a process meets on a disk that is full."""
    process = psutil.Process(pid)
    before = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def stopped(processes: list[int]) -> Iterator[None]:
    """Inside the block these processes do nothing, and hold what they have open."""
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)


class SmtpServer(Controller):
    """aiosmtpd's, on a socket that is bound already; it ends conversations that are still open when it stops."""

    def __init__(self, bound: socket.socket, handler: Any) -> None:
        super().__init__(handler, *bound.getsockname())
        self._bound = bound
        self._conversations: list[SMTP] = []

    def factory(self) -> SMTP:
        self._conversations.append(super().factory())
        return self._conversations[-1]

    @property
    def is_talking(self) -> bool:
        """Whether anybody is connected, or what somebody sent before hanging up is not answered yet."""
        return any(one.transport for one in self._conversations)

    def stop(self, no_assert: bool = False) -> None:
        asyncio.run_coroutine_threadsafe(self._hang_up(), self.loop).result()
        super().stop(no_assert)

    async def _hang_up(self) -> None:
        for transport in filter(None, (one.transport for one in self._conversations)):
            transport.close()
        # The loop closes the sockets in its next turn.
        await asyncio.sleep(0)

    def _create_server(self) -> Any:
        return self.loop.create_server(self._factory_invoker, sock=self._bound)


class Gunicorn:
    """magicauth in production mode. The listening socket is ours and outlives the server, so its port stays; unless it
    `binds` one itself, as it must to put another gunicorn in its place."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], *arguments: str | Path, binds: bool = False) -> None:
        self._folder, self._arguments = folder, arguments
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        bind = self.url.removeprefix("http://") if binds else f"fd://{self._listener.fileno()}"
        self._passed = [] if binds else [self._listener.fileno()]
        self.settings = dict(settings)
        own = {"PUBLIC_URL": self.url, "BIND": bind, "TMPDIR": str(folder)}
        self.env = clean_environment() | own | {name: str(value) for name, value in settings.items()}

    def start(self) -> None:
        if not self._passed:
            self._listener.close()
        log = self._folder / "gunicorn.log"
        self.process = Process(
            [GUNICORN, *map(str, self._arguments)], log, env=self.env, cwd=ROOT, pass_fds=self._passed
        )
        wait_for(self._answers, PATIENCE)

    @property
    def workers(self) -> list[int]:
        """The processes that serve."""
        return [pid for pid in self.process.members if pid != self.process.pid]

    def flask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a command of ours with the same settings."""
        return run_flask(*arguments, env=self.env)

    def browser(self) -> httpx.Client:
        """Somebody's browser, with its cookies."""
        return httpx.Client(base_url=self.url, timeout=PATIENCE, verify=NO_CERTIFICATES)

    def close(self) -> None:
        self.process.kill()
        self._listener.close()

    def _answers(self) -> bool:
        assert self.process.status is None, self.process.output
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/healthz", timeout=1, verify=NO_CERTIFICATES).status_code == 200
        return False


@dataclass(frozen=True)
class Site:
    """gunicorn with one worker, on a Redis of its own; its mail server refuses until it is opened."""

    gunicorn: Gunicorn
    redis: Redis
    mail_server: MailServer


@contextlib.contextmanager
def site(folder: Path, database_url: str, **settings: str) -> Iterator[Site]:
    """A site that the tests of a module share: each mends what it breaks, and none may make it stumble."""
    mail_server = MailServer()
    with folder_for_sockets() as sockets:
        redis = Redis(sockets)
        redis.start()
        own = {"REDIS_URL": redis.url, "DATABASE_URL": database_url, "MAIL_PORT": str(mail_server.port)}
        gunicorn = Gunicorn(folder, SETTINGS | {"WEB_CONCURRENCY": "1"} | own | settings)
        try:
            gunicorn.start()
            yield Site(gunicorn, redis, mail_server)
            assert "Exception on" not in gunicorn.process.output
            assert '"status": 500' not in gunicorn.process.output
        finally:
            gunicorn.close()
            mail_server.close()
            redis.kill()


def run_flask(*arguments: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs `flask …` as an operator does in production, where no `.flaskenv` is read."""
    command = [sys.executable, "-m", "flask", "--app", "wsgi", *arguments]
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": 60}
    return subprocess.run(command, env={**env, "FLASK_SKIP_DOTENV": "1"}, cwd=ROOT, check=False, **options)


def clean_environment() -> dict[str, str]:
    """What every program needs, and no setting of ours."""
    return {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}


def sign_up(browser: httpx.Client, mail_server: MailServer, email: str = EMAIL) -> None:
    """Signs up by the mailed link; the browser is signed in afterwards."""
    assert browser.post("/users/magic_link", data={"email": email}).status_code == 303
    form = {"token": mail_server.letter(email).token, "name": "Ada Lovelace", "password": PASSWORD}
    answer = browser.post("/users/signup", data=form)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/home"), answer.text


def ask_to_sign_in(browser: httpx.Client, email: str = EMAIL) -> None:
    """Asks for a code, with the right password; the browser waits at `/verify`."""
    answer = browser.post("/auth", data={"email": email, "password": PASSWORD})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/verify"), answer.text


def name_at_home(browser: httpx.Client) -> str:
    """Whom the guarded page greets."""
    answer = browser.get("/home", headers=JSON)
    assert answer.status_code == 200, answer.text
    name: str = answer.json()["user"]["name"]
    return name


def redis_binary() -> str:
    """Debian's, or the one that development uses."""
    return shutil.which("redis-server") or shutil.which("valkey-server") or embedded._binary()


def _postgres_binaries() -> Path:
    beside = shutil.which("initdb")
    found = [Path(beside).parent] if beside else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if found:
        return found[-1]
    missing = "PostgreSQL is not installed: apt-get install postgresql."
    if os.environ.get("CI") == "true":
        # Where everything is to be tested, a test that cannot run has failed.
        raise FileNotFoundError(missing)
    raise pytest.skip.Exception(missing)


@contextlib.contextmanager
def folder_for_sockets() -> Iterator[Path]:
    """A folder that a server of another user may use, with a path short enough for sockets; deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="magicauth-", dir="/tmp") as name:
        yield Path(name)
