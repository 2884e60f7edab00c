"""Redis as production runs it: over TLS, behind Sentinel, as a Cluster; and Valkey. On loopback, gone with the test."""

import contextlib
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis as redis_client
from conftest import wait_for
from redis.crc import key_slot
from servers import PATIENCE, Process, redis_binary, stopped

HOST = "127.0.0.1"
# For so long a node may say nothing before the others hold it for dead.
SILENT_MS = 1000
SERVICE = "accounts"
SLOTS = 16_384


class Server:
    """A process at a port of its own, which it has again when it is started again."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.held = [hold_port()]
        self.port = port_of(self.held[0])
        self.name = f"{HOST}:{self.port}"
        self.url = f"redis://{self.name}"
        self.command: list[str] = []
        self.process: Process | None = None
        self.client = redis_client.Redis(HOST, self.port, socket_timeout=1)

    def start(self) -> None:
        self.process = Process(self.command, self.folder / "log", cwd=self.folder)
        wait_for(self._answers, PATIENCE)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()

    @contextlib.contextmanager
    def hung(self) -> Iterator[None]:
        """Inside the block it takes connections and commands, and answers none."""
        assert self.process is not None
        with stopped([self.process.pid]):
            yield

    def close(self) -> None:
        self.client.close()
        self.kill()
        for held in self.held:
            held.close()

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.status is None, self.process.output
        with contextlib.suppress(redis_client.RedisError):
            return bool(self.client.ping())
        return False


class Node(Server):
    """A Redis with an append-only file."""

    def __init__(self, folder: Path, binary: str | None = None, **options: Any) -> None:
        super().__init__(folder)
        own = {
            "bind": HOST,
            "port": self.port,
            "dir": folder,
            "save": "",
            "appendonly": "yes",
            "repl-diskless-sync-delay": 0,
        }
        words = [str(word) for name, value in (own | options).items() for word in (f"--{name}", value)]
        self.command = [binary or redis_binary(), *words]

    @property
    def role(self) -> str:
        """`master` or `slave`; "" while it does not answer."""
        with contextlib.suppress(redis_client.RedisError):
            return str(self.client.info("replication")["role"])
        return ""

    def has_what_has(self, master: "Node") -> Callable[[], bool]:
        """Whether it has, as a replica, all that its master has now."""
        offset = master.client.info("replication")["master_repl_offset"]
        return lambda: self.client.info("replication")["slave_repl_offset"] >= offset

    @property
    def follows(self) -> bool:
        """Whether it is a replica and has what its master has."""
        return self.client.info("replication").get("master_link_status") == "up"


class Encrypted(Node):
    """A Redis that speaks TLS only, as `localhost` and by no other name; `authority` is the file of who says so."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.authority = _make_certificates(folder)
        words = {
            "port": 0,
            "tls-port": self.port,
            "tls-cert-file": folder / "server.pem",
            "tls-key-file": folder / "server.key",
            "tls-auth-clients": "no",
        }
        self.command += [str(word) for name, value in words.items() for word in (f"--{name}", value)]
        self.url = f"rediss://localhost:{self.port}"
        self.client = redis_client.Redis("localhost", self.port, ssl=True, ssl_ca_certs=str(self.authority))


class Sentinel(Server):
    """One of those who watch a master."""

    def __init__(self, folder: Path, master: Node) -> None:
        super().__init__(folder)
        # It writes to its settings.
        settings = folder / "sentinel.conf"
        settings.write_text(
            f"port {self.port}\nbind {HOST}\ndir {folder}\n"
            f"sentinel monitor {SERVICE} {HOST} {master.port} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} {SILENT_MS}\n"
            f"sentinel failover-timeout {SERVICE} 2000\n"
        )
        self.command = [redis_binary(), str(settings), "--sentinel"]

    def start(self) -> None:
        super().start()
        # They look around more often than they do by themselves, so that tests need not wait for them.
        self.client.execute_command("SENTINEL", "DEBUG", "INFO-PERIOD", "200", "PUBLISH-PERIOD", "200")

    @property
    def sees_all(self) -> bool:
        state = self.client.sentinel_master(SERVICE)
        return bool(state["num-other-sentinels"] == 2 and state["num-slaves"] == 1)

    @property
    def master_port(self) -> int:
        return int(self.client.sentinel_get_master_addr_by_name(SERVICE)[1])


class Watched:
    """A master, its replica, and three sentinels, of which two are enough to promote it."""

    def __init__(self, folder: Path) -> None:
        self.nodes = [Node(folder / f"node{number}") for number in range(2)]
        self.sentinels = [Sentinel(folder / f"sentinel{number}", self.nodes[0]) for number in range(3)]
        self.servers = [*self.sentinels, *self.nodes]
        self.url = f"redis+sentinel://{','.join(sentinel.name for sentinel in self.sentinels)}/{SERVICE}"

    def start(self) -> None:
        first, second = self.nodes
        for node in self.nodes:
            node.start()
        second.client.replicaof(HOST, first.port)
        wait_for(lambda: second.follows, PATIENCE)
        for sentinel in self.sentinels:
            sentinel.start()
        wait_for(lambda: all(sentinel.sees_all for sentinel in self.sentinels), PATIENCE)

    @property
    def master(self) -> Node | None:
        """The one that all sentinels name, once it knows itself."""
        ports = {sentinel.master_port for sentinel in self.sentinels}
        found = next((node for node in self.nodes if ports == {node.port}), None)
        return found if found is not None and found.role == "master" else None

    def close(self) -> None:
        for server in self.servers:
            server.close()


class Cluster:
    """Three masters, each with a replica."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.nodes = [self._node(number) for number in range(6)]
        self.servers = self.nodes
        self.masters, self.replicas = self.nodes[:3], self.nodes[3:]
        self.url = f"redis+cluster://{','.join(node.name for node in self.nodes)}"

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        for number, node in enumerate(self.nodes):
            node.client.cluster("SET-CONFIG-EPOCH", number + 1)
            self._meet(node)
        bounds = [SLOTS * number // 3 for number in range(4)]
        for number, node in enumerate(self.masters):
            node.client.cluster("ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
        wait_for(lambda: all(_known_to(node) == 6 for node in self.nodes), PATIENCE)
        for replica, master in zip(self.replicas, self.masters, strict=True):
            replica.client.cluster("REPLICATE", node_id(master))
        wait_for(lambda: all(_state(node) == "ok" for node in self.nodes), PATIENCE)
        wait_for(lambda: all(replica.follows for replica in self.replicas), PATIENCE)

    def join(self) -> Node:
        """A master more, which has no slots yet."""
        node = self._node(len(self.nodes))
        self.nodes.append(node)
        node.start()
        self._meet(node)
        wait_for(lambda: all(_known_to(other) == len(self.nodes) for other in self.nodes), PATIENCE)
        wait_for(lambda: _state(node) == "ok", PATIENCE)
        return node

    def _node(self, number: int) -> Node:
        bus = hold_port()
        options = {
            "cluster-enabled": "yes",
            "cluster-port": port_of(bus),
            "cluster-node-timeout": SILENT_MS,
            # While one shard is away the others go on.
            "cluster-require-full-coverage": "no",
        }
        node = Node(self._folder / f"node{number}", **options)
        node.held.append(bus)
        return node

    def _meet(self, node: Node) -> None:
        first = self.nodes[0]
        node.client.cluster("MEET", HOST, first.port, first.client.config_get("cluster-port")["cluster-port"])

    def shard(self, key: str) -> int:
        """The number of the master that a key belongs to, and of its replica."""
        return key_slot(key.encode()) * 3 // SLOTS

    def close(self) -> None:
        for node in self.nodes:
            node.close()


def hold_port() -> socket.socket:
    """A port that nobody listens at. While the socket is open no other program is given it, and a server that reuses
    addresses can still have it, as often as it is started."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind((HOST, 0))
    return held


def port_of(held: socket.socket) -> int:
    """Its number."""
    port: int = held.getsockname()[1]
    return port


def node_id(node: Node) -> str:
    """Its name among the nodes of its Cluster."""
    return str(node.client.cluster("MYID").decode())


def _state(node: Node) -> str:
    return str(node.client.cluster("INFO")["cluster_state"])


def _known_to(node: Node) -> int:
    return int(node.client.cluster("INFO")["cluster_known_nodes"])


def _make_certificates(folder: Path) -> Path:
    """A certificate for `localhost` and its key, as `server.pem` and `.key`; the path of the authority's own."""
    (folder / "names").write_text("subjectAltName=DNS:localhost\nauthorityKeyIdentifier=keyid\n")
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    signed = ["-CA", "authority.pem", "-CAkey", "authority.key", "-days", "1", "-extfile", "names"]
    # As Python 3.13 wants it, and RFC 5280.
    may_sign = ["-addext", "keyUsage=critical,keyCertSign"]
    authority = ["-keyout", "authority.key", "-out", "authority.pem", "-subj", "/CN=tests"]
    for command in (
        ["req", "-x509", *new_key, *may_sign, *authority],
        ["req", *new_key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost"],
        ["x509", "-req", "-in", "server.csr", *signed, "-out", "server.pem"],
    ):
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True, timeout=60)
    return folder / "authority.pem"
