"""How gunicorn serves magicauth: plain `gunicorn`, started beside this file, reads it.

WEB_CONCURRENCY processes (2) of GUNICORN_THREADS threads (4) listen at BIND, else on every address at PORT, else at
127.0.0.1:8000. Nothing of ours is imported here: the master forks workers that load the code anew, so HUP upgrades it.
"""

import contextlib
import gc
import json
import logging
import multiprocessing
import os
import re
import shutil
import socket
import struct
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import ThreadWorker

# Several workers cannot start for the same reason: the one that holds this lock says so.
_saying_why = multiprocessing.get_context("fork").Lock()
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - gunicorn makes its files there without a name
_METRICS = "magicauth-metrics-"
# Of this master: one that USR2 put in the place of another must not count in what that one takes away.
_OUR_METRICS = f"{_METRICS}{os.getpid()}-"
# Seconds that a client may pause in the middle of a request.
_SILENCE_MOST = 5
# And of taking its answer: its system may take what comes at once, and no more until half of that is read.
_TAKING_MOST = 30
_SEND_BUFFER = 32 * 1024
# gunicorn's words for a client that it could not read from.
_OF_CLIENTS = ("Socket error processing request.", "Error handling request (no URI read)")
# What it quotes of a request that it cannot read may be anything: the end of a body, a header.
_QUOTED = re.compile(r"(Invalid request from ip=\S*: [^:'\"]*).*", re.DOTALL)
# Of a link whose `?` came percent-encoded, however often, the query is part of the path.
_QUERY = re.compile(r"(\?|%(25)*3f)\S*", re.IGNORECASE)


def _whole(name: str, default: int) -> int:
    value = os.environ.get(name) or str(default)
    if not re.fullmatch(r"[1-9][0-9]{0,4}", value):
        raise SystemExit(f"{name} must be a whole number from 1.")
    return int(value)


def _bind() -> str:
    # Whoever sets PORT alone is a platform that forwards to it from outside.
    port = os.environ.get("PORT")
    return os.environ.get("BIND") or (f"0.0.0.0:{port}" if port else "127.0.0.1:8000")


def _count_over_all_workers() -> None:
    # What each worker counted lies in files that prometheus-client adds up. Later workers find the folder made, unless
    # something has emptied /tmp meanwhile: without one they would not start.
    chosen = Path(os.environ.get("PROMETHEUS_MULTIPROC_DIR", ""))
    if not os.environ.get("MAGICAUTH_METRICS_TOKEN"):
        return
    if not chosen.name or _of_another_master(chosen.name) or (_is_ours(chosen.name) and not chosen.is_dir()):
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix=_OUR_METRICS)


def _is_ours(folder: str) -> bool:
    return folder.startswith(_OUR_METRICS)


def _of_another_master(folder: str) -> bool:
    return folder.startswith(_METRICS) and not _is_ours(folder)


class AccessLog(Logger):
    """gunicorn's logs, with requests as JSON lines. Query strings and referrers hold link tokens: neither is logged."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.addFilter(_unless_silent)
        self.error_log.addFilter(_without_secrets)

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            # As MAGICAUTH_TRUSTED_PROXIES lets it be known.
            "ip": environ.get("REMOTE_ADDR", ""),
            "method": environ.get("REQUEST_METHOD", ""),
            "path": _QUERY.split(environ.get("PATH_INFO", ""))[0]
            .encode("latin-1", "replace")
            .decode("utf-8", "replace"),
            "status": int(str(resp.status).split()[0]),
            "bytes": getattr(resp, "sent", 0),
            "ms": round(request_time.total_seconds() * 1000, 1),
            # Of a request that the app had something to say of.
            "request_id": environ.get("magicauth.request_id", ""),
            "agent": environ.get("HTTP_USER_AGENT", "")[:256],
        }
        self.access_log.info(json.dumps(line))


def _unless_silent(record: logging.LogRecord) -> bool:
    # That a client fell silent is no error, and its trace would let anybody fill the log.
    silent = record.exc_info and isinstance(record.exc_info[1], BlockingIOError)
    return not (silent and record.msg in _OF_CLIENTS)


def _without_secrets(record: logging.LogRecord) -> bool:
    # gunicorn quotes a request that it could not parse or serve.
    record.msg, record.args = _QUERY.sub("?…", _QUOTED.sub(r"\1…", record.getMessage())), ()
    return True


class Worker(ThreadWorker):
    """gunicorn's threaded worker. Settings that cannot be used end gunicorn, in a sentence each instead of a trace."""

    def handle_quit(self, *signal: Any) -> None:
        # Not ThreadWorker's own, which takes a lock that the thread it interrupts may hold: it would wait for itself.
        super(ThreadWorker, self).handle_quit(*signal)

    def load_wsgi(self) -> None:
        # What is loaded stays: to look through it for garbage took a tenth of the start, and would stop requests later.
        gc.disable()
        try:
            super().load_wsgi()
            gc.freeze()
            gc.enable()
        except Exception as error:
            if not hasattr(error, "problems"):
                raise
            if not _saying_why.acquire(block=False):
                # The first ends gunicorn, which would stumble over a second that ends the same way at once.
                while self.alive and os.getppid() == self.ppid:
                    time.sleep(0.05)
                raise SystemExit(0) from None
            with contextlib.suppress(OSError):
                print(f"Error: {error}", file=sys.stderr, flush=True)
            # With this status one worker ends gunicorn, instead of being replaced for ever. At once: where nobody reads
            # what it said, Python would end with another.
            os._exit(Arbiter.WORKER_BOOT_ERROR)


def pre_fork(_: Any, __: Any) -> None:
    # Not before: what refuses to start leaves no folder.
    _count_over_all_workers()


def post_worker_init(worker: Any) -> None:
    for listener in worker.sockets:
        # Connections inherit them. A thread reads a request, and writes an answer, without any other bound: as many
        # silent clients as there are threads would stop the server.
        for bound, seconds in ((socket.SO_RCVTIMEO, _SILENCE_MOST), (socket.SO_SNDTIMEO, _TAKING_MOST)):
            listener.setsockopt(socket.SOL_SOCKET, bound, struct.pack("ll", seconds, 0))
        # Writing goes on when a third of it is free: of the megabytes that it would grow to, slow clients take that in
        # time no more.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    # After the fork: threads do not survive one. Where something is wrapped around the app, its first request does it.
    outbox = getattr(worker.wsgi, "extensions", {}).get("magicauth-outbox")
    if outbox is not None and worker.wsgi.config["MAGICAUTH_MAIL_WORKER"] == "embedded":
        outbox.start_worker()


def worker_exit(_: Any, __: Any) -> None:
    # Whatever was wrapped around the app. A worker that did not come up has none; the master calls this too, for one
    # that vanished, and no mail worker runs there.
    magicauth = sys.modules.get("magicauth.outbox")
    for outbox in list(magicauth.of_this_process) if magicauth else []:
        outbox.stop_worker()


def on_exit(_: Any) -> None:
    # One that an operator chose stays.
    folder = Path(os.environ.get("PROMETHEUS_MULTIPROC_DIR", ""))
    if _is_ours(folder.name):
        shutil.rmtree(folder, ignore_errors=True)


wsgi_app = "wsgi:app"
bind = _bind()
workers = _whole("WEB_CONCURRENCY", 2)
threads = _whole("GUNICORN_THREADS", 4)
worker_class = Worker
# Heartbeats are files; on a disk that stalls they would look like a dead worker.
worker_tmp_dir = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None
timeout = 30
# Requests and the letter in hand are finished: SMTP may take its time.
graceful_timeout = 30
keepalive = 5
# The most it takes: the sign-in page that carries the longest `next`, percent-encoded, is longer than the default.
limit_request_line = 8190
# It would wait for a client that does not read for ever, whatever bound its socket has.
sendfile = False
# Which proxies are believed is MAGICAUTH_TRUSTED_PROXIES' business alone: gunicorn believes none.
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}
control_socket_disable = True
logger_class = AccessLog
accesslog = "-"
errorlog = "-"
