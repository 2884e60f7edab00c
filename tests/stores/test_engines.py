"""The Redis client for any REDIS_URL, as far as it can be looked at without the servers (tests/faults has those)."""

import random
import socket
import time

from instruments import at_once
from redis.exceptions import ConnectionError as RedisConnectionError

from magicauth import engines
from magicauth.engines import _Sentinels

MASTER = {"ip": "192.0.2.1", "port": 6379, "is_master": True, "is_sdown": False, "is_odown": False}


class Unreliable:
    """A sentinel that answers every other time, and lets others run meanwhile."""

    def sentinel_masters(self):
        time.sleep(random.random() / 2000)
        if random.random() < 0.5:
            raise RedisConnectionError
        return {"accounts": MASTER | {"num-other-sentinels": 2}}


def test_connections_that_something_on_the_way_may_forget_are_kept_alive():
    for url in ("redis://redis.example", "rediss://redis.example", "redis+sentinel://redis.example/accounts"):
        options = engines.connect(url).connection_pool.connection_kwargs
        assert options["socket_keepalive"] and socket.TCP_KEEPIDLE in options["socket_keepalive_options"], url


def test_threads_that_look_for_the_master_at_once_lose_no_sentinel():
    sentinels = _Sentinels([("127.0.0.1", 1)])
    asked = [Unreliable() for _ in range(5)]
    sentinels.sentinels = list(asked)

    def look(_):
        for _ in range(50):
            try:
                assert sentinels.discover_master("accounts") == ("192.0.2.1", 6379)
            except RedisConnectionError:
                continue

    at_once(8, look)
    assert set(sentinels.sentinels) == set(asked) and len(sentinels.sentinels) == 5
