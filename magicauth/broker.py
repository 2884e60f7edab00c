"""dramatiq's broker with what it lacks: it scans no keyspace, hears of a letter of its own process at once, and loses
none while Redis is away."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import dramatiq
import redis.exceptions as redis_errors
from dramatiq.brokers import redis as dramatiq_redis
from dramatiq.common import compute_backoff, dq_name

from magicauth.engines import REDIS_IS_AWAY

# One hash slot for the whole queue, as its scripts need on a Cluster.
NAMESPACE = "{magicauth-mail}"
QUEUE = "letters"
# Seconds between two questions of a worker whether Redis is back.
_WHILE_AWAY = 1.0
# A consumer looks for letters of other processes after so many milliseconds, at the latest.
_LOOK_AFTER_MS = 250
# Seconds between two looks whether the last letter is done.
_WHILE_STOPPING = 0.01

log = logging.getLogger("magicauth.mail")


class Broker(dramatiq_redis.RedisBroker):
    """dramatiq's broker, but its maintenance asks after the two lists it means instead of `KEYS`: with a million
    sessions beside them, that stopped Redis for half a second whenever a web process had been silent for ten."""

    _KEYS = b'redis.call("keys", dead_worker_acks .. "*")'
    _TWO_LISTS = b"""(redis.call("exists", dead_worker_acks .. "." .. queue_canonical_name,
      dead_worker_acks .. "." .. queue_canonical_name .. ".DQ") > 0 and {1} or {})"""

    def __init__(self, **options: Any) -> None:
        super().__init__(namespace=NAMESPACE, **options)  # type: ignore[no-untyped-call]
        script = dramatiq_redis._scripts["dispatch"]
        if self._KEYS not in script:
            raise RuntimeError("dramatiq's Redis script is not the one this was written for")
        self.news = {QUEUE: threading.Event(), dq_name(QUEUE): threading.Event()}
        self.stopping = threading.Event()
        # Letters that a worker had in hand when it was stopped and could not put off.
        self.left: set[str] = set()
        self.scripts["dispatch"] = self.client.register_script(script.replace(self._KEYS, self._TWO_LISTS))

    @property
    def consumer_class(self) -> type[dramatiq.Consumer]:
        """What dramatiq takes letters from the queue with."""
        return _Consumer

    def enqueue(self, message: Any, *, delay: int | None = None) -> Any:
        """For the worker, which puts a letter back for later: dramatiq drops it if that fails. Waits for Redis, or
        until the worker is to stop: Redis has the letter still. One that timed out may be queued twice."""
        while True:
            try:
                return self.enqueue_once(message, delay=delay)
            except redis_errors.ConnectionError as error:
                log.warning("a letter waits to be put off, Redis is away: %s", error)
                if self.stopping.wait(_WHILE_AWAY):
                    self.left.add(message.options.get("redis_message_id"))
                    raise

    def enqueue_once(self, message: Any, *, delay: int | None = None) -> Any:
        """For a request. Raises RedisError."""
        queued = super().enqueue(message, delay=delay)
        self.news[QUEUE if delay is None else dq_name(QUEUE)].set()
        return queued

    def stop_waiting(self) -> None:
        """Lets nobody wait any more, for a letter or for Redis: the worker is to stop."""
        self.stopping.set()
        for news in self.news.values():
            news.set()

    def _dispatch(self, command: str) -> Callable[..., Any]:
        dispatch = super()._dispatch(command)  # type: ignore[no-untyped-call]

        def send(*arguments: Any) -> Any:
            # The one error that dramatiq waits out. One that hangs or is no master any more is away as well.
            try:
                return dispatch(*arguments)
            except REDIS_IS_AWAY as error:
                raise redis_errors.ConnectionError(str(error)) from error

        return send


class _Consumer(dramatiq_redis._RedisConsumer):
    """Waits for a Redis that is away, where dramatiq's is made anew and forgets the letters that it holds for later."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)  # type: ignore[no-untyped-call]
        # Where there is nothing dramatiq's would sleep, and not hear of news.
        self.timeout = 0
        self._news = self.broker.news[self.queue_name]
        self._room = threading.Event()
        self._in_hand: set[str] = set()
        self._missed = False

    def __next__(self) -> Any:
        # Before it looks: what comes meanwhile is news, and what is done meanwhile leaves room.
        self._news.clear()
        self._room.clear()
        full = self.outstanding_message_count >= self.prefetch
        try:
            if self._missed:
                self._put_back()
            message = super().__next__()  # type: ignore[no-untyped-call]
        except (dramatiq.ConnectionClosed, *REDIS_IS_AWAY) as error:
            log.warning("letters wait, Redis is away: %s", error)
            self._missed = True
            time.sleep(_WHILE_AWAY)
            return None
        if message is None:
            self._wait_for(self._room if full else self._news)
        else:
            self._in_hand.add(message.options["redis_message_id"])
        return message

    def ack(self, message: Any) -> None:
        """Forgets a letter that is done. One that is left is not: another worker finds it with this one dead."""
        message_id = message.options["redis_message_id"]
        if message_id in self.broker.left:
            return
        try:
            super().ack(message)  # type: ignore[no-untyped-call]
        finally:
            self._room.set()
        self._in_hand.discard(message_id)

    def nack(self, message: Any) -> None:
        """Forgets a letter that is given up."""
        try:
            super().nack(message)  # type: ignore[no-untyped-call]
        finally:
            self._room.set()
        self._in_hand.discard(message.options["redis_message_id"])

    def requeue(self, messages: Any) -> None:
        """Puts back what was not begun. Raises ConnectionClosed, which dramatiq expects of a broker that is away."""
        try:
            super().requeue(messages)  # type: ignore[no-untyped-call]
        except REDIS_IS_AWAY as error:
            raise dramatiq.ConnectionClosed(error) from None

    def _wait_for(self, event: threading.Event) -> None:
        if self.broker.stopping.is_set():
            time.sleep(_WHILE_STOPPING)
        else:
            event.wait(compute_backoff(self.misses, max_backoff=_LOOK_AFTER_MS)[1] / 1000)

    def _put_back(self) -> None:
        # What Redis handed out in an answer that came too late: nobody has it, and this worker counts as alive.
        key = f"{NAMESPACE}:__acks__.{self.broker.broker_id}.{self.queue_name}"
        handed_out = {message_id.decode() for message_id in self.broker.client.smembers(key)}
        if missed := handed_out - self._in_hand:
            self.broker.do_requeue(self.queue_name, *missed)
        self._missed = False
