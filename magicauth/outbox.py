"""The queue of letters: dramatiq on our Redis, and the worker that hands them to the mail server.

A job holds the letter's name, the challenge's id and plain context, and no secret: the worker derives the code when it
writes the letter. At least once: a letter whose worker was killed is taken up by another within about ten seconds.
"""

import contextlib
import json
import logging
import smtplib
import threading
import time
import uuid
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import dramatiq
import flask_mail
from dramatiq.middleware import AgeLimit, Retries
from flask import Flask, current_app

from magicauth import challenges, smtp
from magicauth.broker import NAMESPACE, QUEUE, Broker
from magicauth.challenges import Challenge
from magicauth.engines import REDIS_IS_AWAY
from magicauth.errors import reason_of
from magicauth.extensions import DATABASE_IS_AWAY, Script, keyring, redis
from magicauth.stored import known

# A letter without a challenge is news for a day, and then no more.
_LETTER_LIFE = 86_400
_OLD_AFTER = 60

# Seconds after which a change that is not committed will not be, and whoever knows a newer key would have sent it.
_NEVER_AFTER = 60
_WORKER_THREADS = 2
# Seconds for which a mail server that was not there is left alone: else each of the thousands of letters that wait
# would be written and tried anew every half minute.
_LEFT_ALONE = 1.0
# A thread of the worker looks after so many milliseconds whether it is to stop, at the latest.
_POLL_MS = 250
# A worker that was silent for this long is dead, and its letters are handed out again.
_HEARTBEAT_MS = 10_000
_DEAD_LETTER_MS = 3 * _LETTER_LIFE * 1000
# Commands in a million that look for dead workers.
_MAINTENANCE_CHANCE = 200_000
_STATE_KEY = "magicauth:mail:state"
# Here and not in the process: a `flask mail worker` has no page that its numbers could be read from.
_COUNTS_KEY = "magicauth:mail:counts"

# As dramatiq queues a letter, and in one step: an operator who is interrupted loses none, and two at once send it once.
_retry = Script("""
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HSET', KEYS[3], ARGV[2], ARGV[3])
redis.call('RPUSH', KEYS[4], ARGV[2])
return 1
""")

log = logging.getLogger("magicauth.mail")

# For servers, which stop workers with their processes.
of_this_process: "weakref.WeakSet[Outbox]" = weakref.WeakSet()


@dataclass(frozen=True)
class Job:
    """A letter to be written: its name; the challenge whose code or link it carries, and which letter of that challenge
    it is (1 for the first), or else the address; and what it may say (plain values, no secrets)."""

    letter: str
    challenge_id: str = ""
    send: int = 1
    to: str = ""
    context: dict[str, Any] = field(default_factory=dict)


class _NotSent(dramatiq.errors.Retry):
    """A letter did not go out. Stands for what was raised: dramatiq keeps the text of an exception in the queue and
    logs it with the job's arguments, and a mail server's refusal may repeat the letter, code and all."""

    def __init__(self, *, final: bool) -> None:
        super().__init__()
        self.final = final


class NotYet(Exception):
    """A letter cannot be written yet; str() is why. Not for ever: then it is dropped."""


class _HangUp(dramatiq.Middleware):
    """Ends the conversation with the mail server that a thread of the worker has kept."""

    def __init__(self, hang_up: Callable[[], None]) -> None:
        self._hang_up = hang_up

    def before_worker_thread_shutdown(self, broker: Any, thread: Any) -> None:
        """Called by the thread, as its last act."""
        self._hang_up()


# How it went: the mail server was not there ("failed"), or was and took ("ok") or refused this letter ("refused").
Last = Literal["", "ok", "failed", "refused"]
Write = Callable[[Job, Challenge | None], flask_mail.Message | None]


class Post(Protocol):
    """What takes letters: the mail server, or development's mailbox. Raises what smtplib raises."""

    def reach(self) -> None:
        """Sees whether it is there."""

    def deliver(self, message: flask_mail.Message) -> None:
        """Hands over a letter, where it was just reached."""

    def hang_up(self) -> None:
        """The last act of a worker's thread."""


class Outbox:
    """An app's queue and its worker."""

    def __init__(self, app: Flask, write: Write, post: Post) -> None:
        """`write` makes the message of a job."""
        self.app = app
        self.write = write
        self.post = post
        self.broker = Broker(
            client=app.extensions["magicauth-redis"],
            middleware=[
                AgeLimit(),
                Retries(min_backoff=1000, max_backoff=30_000, retry_when=_try_again),
                _HangUp(post.hang_up),
            ],
            heartbeat_timeout=_HEARTBEAT_MS,
            maintenance_chance=_MAINTENANCE_CHANCE,
            dead_message_ttl=_DEAD_LETTER_MS,
        )
        self.actor = dramatiq.Actor(
            self._send, broker=self.broker, actor_name="send", queue_name=QUEUE, priority=0, options={}
        )
        # At the level of debugging it says what a job holds, its address too.
        self.actor.logger.setLevel(logging.INFO)
        self._worker: dramatiq.Worker | None = None
        self._lock = threading.Lock()
        self._left_alone_until = 0.0
        of_this_process.add(self)

    def put(self, job: Job, life: int = _LETTER_LIFE) -> None:
        """Queues a letter that is worth sending for `life` seconds. Raises RedisError."""
        self.broker.enqueue_once(self.actor.message_with_options(args=(vars(job),), max_age=life * 1000))

    @property
    def has_worker(self) -> bool:
        """Whether the worker of this process runs."""
        return self._worker is not None

    def start_worker(self, threads: int = _WORKER_THREADS) -> None:
        """Starts the worker of this process, once. After the fork: threads do not survive one."""
        with self._lock:
            if self._worker is None:
                self.broker.stopping.clear()
                self._worker = dramatiq.Worker(
                    self.broker, worker_threads=threads, worker_timeout=_POLL_MS, queues={QUEUE}
                )
                self._worker.start()

    def stop_worker(self, timeout: float = 15.0) -> None:
        """Lets the worker finish the letter in its hand and stops it."""
        with self._lock:
            if self._worker is not None:
                self.broker.stop_waiting()
                wait_for_threads(self._worker)
                self._worker.stop(timeout=int(timeout * 1000))
                self._worker = None

    def _send(self, stored: dict[str, Any]) -> None:
        job = Job(**known(Job, stored))
        with self.app.app_context():
            try:
                self._send_now(job)
            except REDIS_IS_AWAY:
                # To be tried again; dramatiq would call it a mistake of ours.
                raise _NotSent(final=False) from None
            except DATABASE_IS_AWAY as error:
                said = reason_of(error)
                log.warning("letter waits: the database is away: %s", said, extra={"letter": job.letter})
                raise _NotSent(final=False) from None
            except NotYet as reason:
                if time.time() - job.context["at"] <= _NEVER_AFTER:
                    raise _NotSent(final=False) from None
                _drop(job, str(reason))

    def _send_now(self, job: Job) -> None:
        # First, for a letter may be out of date afterwards.
        self.broker.stopping.wait(max(0.0, self._left_alone_until - time.monotonic()))
        if job.challenge_id and not keyring().knows(job.challenge_id):
            # Another process, which was started with a newer key, can.
            raise NotYet("its key is not known here")
        challenge = challenges.get(job.challenge_id) if job.challenge_id else None
        if reason := _why_not(job, challenge):
            _drop(job, reason)
            return
        is_there = False
        try:
            message = self.write(job, challenge)
            # Asked where there is nothing to send as well: how the post stands tells nobody whose letter went out.
            self.post.reach()
            is_there = True
            if message is not None:
                self.post.deliver(message)
        except (*REDIS_IS_AWAY, *DATABASE_IS_AWAY, NotYet):
            # No fault of the mail server's, whose state is shown to everybody.
            raise
        except Exception as error:
            _note(job, "failed", "refused" if is_there else "failed", type(error).__name__)
            # What a mail server answers is left out; a mistake of ours is not.
            ours = not isinstance(error, smtplib.SMTPException | OSError)
            if not (is_there or ours):
                self._left_alone_until = time.monotonic() + _LEFT_ALONE
            log.warning("letter not sent: %s", type(error).__name__, extra={"letter": job.letter}, exc_info=ours)
            raise _NotSent(final=not smtp.worth_a_retry(error)) from None
        # It is out: a Redis that went away meanwhile must not have it sent again.
        with contextlib.suppress(*REDIS_IS_AWAY):
            if challenge is not None:
                challenges.handed_over(challenge, job.send)
        if message is None:
            _drop(job, "there is nothing to tell, or not again today", "ok")
        else:
            _note(job, "sent", "ok")


def wait_for_threads(worker: dramatiq.Worker) -> None:
    """Waits until the threads of a worker run: dramatiq's forget that they were stopped before."""
    threads: list[Any] = [*worker.workers, *worker.consumers.values()]
    while not all(thread.running for thread in threads):
        time.sleep(0.001)


def start_with_first_request(app: Flask) -> Callable[..., Any]:
    """The app's WSGI callable; its first request starts the embedded worker of this process, whatever the server is."""
    serve = app.wsgi_app
    if app.config["MAGICAUTH_MAIL_WORKER"] != "embedded":
        return serve

    def wsgi_app(environ: Any, start_response: Any) -> Any:
        outbox: Outbox = app.extensions["magicauth-outbox"]
        if not outbox.has_worker:
            outbox.start_worker()
        return serve(environ, start_response)

    return wsgi_app


def put(job: Job, life: int = _LETTER_LIFE) -> None:
    """Queues a letter on the current app's queue, to be sent within `life` seconds or not at all."""
    _outbox().put(job, life)


@dataclass(frozen=True)
class Status:
    """How the post stands. `waiting` counts what a worker has in hand too; `oldest` is the age in seconds of the oldest
    letter that waits for its first try, or for its end (one that a single mail server puts off for hours is nobody's
    fault); `last` is how the last delivery went, "" if there was
    none, `reason` why it failed; `degraded` whether letters do not get through as they should, as far as anybody may
    know."""

    waiting: int
    retrying: int
    dead: int
    oldest: float
    last: str
    reason: str
    degraded: bool


def status() -> Status:
    """How the post stands now. Raises RedisError."""
    client, name = redis(), f"{NAMESPACE}:{QUEUE}"
    waiting = client.hlen(f"{name}.msgs")
    retrying = client.hlen(f"{name}.DQ.msgs")
    dead = client.zcard(f"{name}.XQ")
    since = _oldest(client, name)
    oldest = time.time() - since if since else 0.0
    state = {key.decode(): value.decode() for key, value in client.hgetall(_STATE_KEY).items()}
    # Where sign-up is not open, not every stranger's letter is written: that one was refused would tell whose was.
    refused = state.get("last") == "refused" and current_app.config["MAGICAUTH_SIGN_UP"] == "open"
    degraded = state.get("last") == "failed" or refused or oldest > _OLD_AFTER
    last, reason = state.get("last", ""), state.get("reason", "")
    return Status(waiting, retrying, dead, max(0.0, oldest), last, reason, degraded)


def _oldest(client: Any, name: str) -> float | None:
    """When the oldest letter of those at the head of the queue, and in the hand of a worker, was queued."""
    pipeline = client.pipeline(transaction=False)
    for worker in client.zrange(f"{NAMESPACE}:__heartbeats__", 0, -1):
        pipeline.smembers(f"{NAMESPACE}:__acks__.{worker.decode()}.{QUEUE}")
    head = client.lindex(name, 0)
    ids = {message_id for in_hand in pipeline.execute() for message_id in in_hand} | ({head} if head else set())
    bodies = client.hmget(f"{name}.msgs", *ids) if ids else []
    letters = {message_id: json.loads(body) for message_id, body in zip(ids, bodies, strict=True) if body}
    # In hand it is being tried; at the head it waits, with all behind it.
    waiting = [one for message_id, one in letters.items() if message_id == head or not one["options"].get("retries")]
    return min((one["message_timestamp"] / 1000 for one in waiting), default=None)


def is_failing() -> bool:
    """Whether the mail server was not there for the last letter. Raises RedisError."""
    return bool(redis().hget(_STATE_KEY, "last") == b"failed")


def counts() -> dict[tuple[str, str], int]:
    """How many letters became what, by all workers: {("sign_in", "sent"): 7}. Raises RedisError."""
    stored = redis().hgetall(_COUNTS_KEY)
    return {_split(field.decode()): int(count) for field, count in stored.items()}


def retry_dead() -> int:
    """Puts letters that were given up back into the queue, as new; how many."""
    client, name, actor = redis(), f"{NAMESPACE}:{QUEUE}", _outbox().actor
    count = 0
    for dead_id in client.zrange(f"{name}.XQ", 0, -1):
        if body := client.hget(f"{name}.XQ.msgs", dead_id):
            new_id = str(uuid.uuid4())
            letter = actor.message_with_options(args=json.loads(body)["args"], max_age=_LETTER_LIFE * 1000)
            letter = letter.copy(options={"redis_message_id": new_id})
            keys = [f"{name}.XQ", f"{name}.XQ.msgs", f"{name}.msgs", name]
            count += _retry(keys, dead_id, new_id, letter.encode())
    return count


def _outbox() -> Outbox:
    outbox: Outbox = current_app.extensions["magicauth-outbox"]
    return outbox


def _why_not(job: Job, challenge: Challenge | None) -> str:
    """Why the letter is not to be sent any more, or ""."""
    if job.challenge_id and challenge is None:
        return "its challenge is over"
    # dramatiq queues a retry before it forgets the job it is for: a worker killed in between leaves both.
    if challenge is not None and challenge.handed >= job.send:
        return "the mail server has it"
    return ""


def _try_again(_: int, error: BaseException) -> bool:
    return not (isinstance(error, _NotSent) and error.final)


def _drop(job: Job, why: str, last: Last = "") -> None:
    log.info("letter dropped: %s", why, extra={"letter": job.letter})
    _note(job, "dropped", last)


def _note(job: Job, became: Literal["sent", "failed", "dropped"], last: Last, reason: str = "") -> None:
    """Notes what became of a letter, and how the mail server answered if it was asked, if Redis is there: the letter
    itself is done with."""
    pipeline = redis().pipeline(transaction=False)
    pipeline.hincrby(_COUNTS_KEY, f"{job.letter} {became}", 1)
    if last:
        pipeline.hset(_STATE_KEY, mapping={"last": last, "reason": reason})
    with contextlib.suppress(*REDIS_IS_AWAY):
        pipeline.execute()


def _split(field: str) -> tuple[str, str]:
    letter, _, became = field.partition(" ")
    return letter, became
