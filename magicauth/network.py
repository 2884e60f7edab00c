"""Origins and addresses, as browsers, proxies and settings write them."""

import contextlib
import functools
import ipaddress
import re
from urllib.parse import urlsplit


@functools.lru_cache(maxsize=256)
def origin_of(url: str) -> str | None:
    """`scheme://host[:port]` of an http(s) URL as browsers write an Origin, or None if it is no such URL."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        return None
    # As browsers write it: a name in another script comes as `xn--…`, and `*` means no host at all.
    if not re.fullmatch(r"[a-z0-9._:-]+", host):
        return None
    shown = f"[{host}]" if ":" in host else host
    default_port = 443 if parts.scheme == "https" else 80
    return f"{parts.scheme}://{shown}" + (f":{port}" if port not in (None, default_port) else "")


def ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address; one of IPv4 that a listener for both writes as `::ffff:203.0.113.9` is one of IPv4. Raises
    ValueError."""
    address = ipaddress.ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


def is_loopback(host: str) -> bool:
    """Whether `host`, without a port, names this machine only: localhost, 127.0.0.0/8 or ::1."""
    with contextlib.suppress(ValueError):
        return ip_address(host.strip("[]")).is_loopback
    return host.lower() == "localhost"


def is_browsers_loopback(host: str) -> bool:
    """Whether browsers take it for this machine: names under localhost too, of which a resolver may say otherwise."""
    return is_loopback(host) or re.fullmatch(r"([a-z0-9-]+\.)+localhost", host.lower()) is not None
