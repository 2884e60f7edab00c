"""The Redis client for any REDIS_URL (one server, TLS, Sentinel, Cluster), with time-outs that a request can bear."""

import contextlib
import copy
import functools
import hashlib
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisClusterException, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import Sentinel

_CONNECT_TIMEOUT = 0.25
_COMMAND_TIMEOUT = 1.0
# They are asked one after the other, while a request waits.
_SENTINEL_TIMEOUT = 0.25
# Each thread of the server holds one; redis-py's own bound of 100 answered a burst of more with 503.
_REDIS_CONNECTIONS = 1000
# Seconds, and tries: a firewall or NAT that forgets idle connections would make the next request wait for nobody.
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 3}
# What Redis, a Sentinel or a Cluster raises when it is away, full, read-only or too slow.
REDIS_IS_AWAY = (RedisError, RedisClusterException)
# redis-py raises IndexError where the nodes own no slots yet.
_CLUSTER_IS_AWAY = (*REDIS_IS_AWAY, IndexError)


def connect(url: str) -> Any:
    """A client that connects when it is first used: a `Redis`, or a `Cluster`, which share their methods."""
    parts = urlsplit(url)
    options: dict[str, Any] = {
        "socket_connect_timeout": _CONNECT_TIMEOUT,
        "socket_timeout": _COMMAND_TIMEOUT,
        "max_connections": _REDIS_CONNECTIONS,
        # A pool already replaces the connections it finds dead. A retry beyond that would run a script twice that
        # timed out after it had run, and hold a request for seconds.
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    if parts.scheme != "unix":
        options["socket_keepalive"] = True
        # As far as the system knows them.
        options["socket_keepalive_options"] = {
            getattr(socket, name): value for name, value in _KEEPALIVE.items() if hasattr(socket, name)
        }
    if "+" not in parts.scheme:
        return Redis.from_url(url, **options)
    # What redis-py reads of a URL, for those of which it reads none.
    if parts.scheme.startswith("rediss"):
        # Where the CA and client certificates lie: ?ssl_ca_certs=/path&ssl_certfile=…
        options |= {"ssl": True, **{name: value for name, value in parse_qsl(parts.query) if name.startswith("ssl_")}}
    of_nodes = {name: unquote(value) for name in ("username", "password") if (value := getattr(parts, name))}
    if parts.scheme.endswith("+cluster"):
        return Cluster(_hosts(parts.netloc, 6379), options | of_nodes)
    name, _, number = parts.path.lstrip("/").partition("/")
    sentinel_options = options | {"socket_timeout": _SENTINEL_TIMEOUT}
    hosts = _hosts(parts.netloc, 26_379)
    sentinels: Sentinel = _Sentinels(hosts, sentinel_kwargs=sentinel_options, **options, **of_nodes)  # type: ignore[no-untyped-call]
    return sentinels.master_for(name, db=int(number or 0))


def hangs(error: BaseException) -> bool:
    """Whether Redis did not answer in time: whoever has waited for it once is not made to wait again."""
    # dramatiq has one error for all, with the one that it stands for.
    return any(isinstance(one, RedisTimeoutError) for one in (error, error.__cause__))


class Script:
    """A Lua script, run by its hash; a server that lost it (SCRIPT FLUSH, a failover) is sent the text again."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.hash = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def run(self, client: Any, keys: Sequence[str], *arguments: Any) -> Any:
        """Runs it on the Redis of `client`."""
        try:
            return client.evalsha(self.hash, len(keys), *keys, *arguments)
        except NoScriptError:
            return client.eval(self.text, len(keys), *keys, *arguments)


class Cluster:
    """The client of a Redis Cluster, which keeps to our time-outs.

    redis-py's own asks the nodes for their map when it is made, so that no process would start while they are away; and
    again within every request that meets an error, so that nodes that hang would hold each for seconds, one request
    after the other. This one asks in a thread, one at a time: the request that met the error has failed anyway.
    """

    def __init__(self, nodes: list[tuple[str, int]], options: dict[str, Any]) -> None:
        self._nodes = nodes
        self._options = options
        self._client: RedisCluster | None = None
        self._reason = "no node answers in time"
        self._asking: threading.Thread | None = None
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        if self._client is None:
            self._ask(self._connect).join(_COMMAND_TIMEOUT)
        if self._client is None:
            raise RedisConnectionError(self._reason)
        return getattr(self._client, name)

    def pipeline(self, transaction: bool = False) -> "_OneByOne":
        """What looks like a pipeline. Commands of many nodes cannot be one transaction."""
        return _OneByOne(self)

    def register_script(self, text: bytes) -> Callable[..., Any]:
        """For dramatiq. redis-py's sends the text to every master, of which one may be away."""
        script = Script(text.decode())
        return lambda keys=(), args=(): script.run(self, keys, *args)

    def close(self) -> None:
        """Closes its connections."""
        if self._client is not None:
            self._client.close()

    def _ask(self, ask: Callable[[], None]) -> threading.Thread:
        with self._lock:
            if self._asking is None or not self._asking.is_alive():
                self._asking = threading.Thread(target=ask, daemon=True)
                self._asking.start()
            return self._asking

    def _connect(self) -> None:
        try:
            client = _RedisCluster(
                startup_nodes=[ClusterNode(host, port) for host, port in self._nodes],
                # While some slots have no master, the others are served.
                require_full_coverage=False,
                # A slot that moved is noted as such, and the map not asked for.
                reinitialize_steps=0,
                **self._options,
            )
        except _CLUSTER_IS_AWAY as error:
            self._reason = str(error)
            return
        nodes: Any = client.nodes_manager
        # Besides the nodes last seen, those of REDIS_URL: behind their names all may be others by now.
        ask = functools.partial(nodes.initialize, additional_startup_nodes_info=self._nodes)

        def ask_quietly() -> None:
            with contextlib.suppress(*_CLUSTER_IS_AWAY):
                ask()

        nodes.initialize = lambda **_: self._ask(ask_quietly)
        self._client = client


class _RedisCluster(RedisCluster):
    """redis-py's own has an AttributeError for a slot that is on its way to a node it has not heard of."""

    def get_node(self, host: str | None = None, port: int | None = None, node_name: str | None = None) -> Any:
        """The node of that name or address."""
        nodes = self.nodes_manager.nodes_cache
        if node_name is not None and node_name not in nodes:
            address, _, number = node_name.rpartition(":")
            nodes[node_name] = ClusterNode(address, int(number), "primary")
        return super().get_node(host, port, node_name)  # type: ignore[no-untyped-call]


class _OneByOne:
    """Commands that are sent one by one: where redis-py's pipeline of a Cluster meets a time-out, it waits as long
    again for each command that it holds, and may do it twice."""

    def __init__(self, client: Cluster) -> None:
        self._client = client
        self._commands: list[Callable[[], Any]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **options: self._commands.append(
            lambda: getattr(self._client, name)(*arguments, **options)
        )

    def execute(self) -> list[Any]:
        """What each of them answered."""
        return [command() for command in self._commands]


class _Sentinels(Sentinel):
    """redis-py's own moves the sentinel that answered to the front of a list that all threads share: racing, they wrote
    it over another, which was asked no more. Here each thread puts a whole list in the place of the last."""

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Address and port of the master. Raises ConnectionError."""
        mine = copy.copy(self)
        mine.sentinels = list(self.sentinels)
        found: tuple[str, int] = Sentinel.discover_master(mine, service_name)
        self.sentinels = mine.sentinels
        return found


def _hosts(netloc: str, default_port: int) -> list[tuple[str, int]]:
    hosts = []
    for word in netloc.rpartition("@")[2].split(","):
        parts = urlsplit(f"//{word}")
        hosts.append((parts.hostname or "localhost", parts.port or default_port))
    return hosts
