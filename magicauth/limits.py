"""Budgets for letters, codes and passwords, in Redis: taken before the work, given back when it turns out right (all
that a request gives back, in one step when it is answered).

They degrade and do not lock: a browser known to an account (see visitor.py) draws on budgets of its own, so that
whoever guesses at somebody's address spends only what strangers have.
"""

import ipaddress
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from flask import Response, after_this_request, current_app, g, has_request_context
from limits import RateLimitItem

from magicauth import metrics
from magicauth.addresses import canonical_for_counting
from magicauth.engines import REDIS_IS_AWAY
from magicauth.errors import PasswordsSpent, TooMany
from magicauth.extensions import Script, hung, keyring, note_hang
from magicauth.network import ip_address

Kind = Literal["mails", "codes", "passwords"]
_PER: dict[Kind, str] = {"mails": "ADDRESS", "codes": "ACCOUNT", "passwords": "ACCOUNT"}

# All counters or none, so that a request that is refused for one budget does not eat another, and so that parallel
# requests cannot all see the last free place. Every counter shares one hash slot: a step over several is atomic on a
# Cluster too, at the price of one shard that serves them all.
_WAIT = """
local wait = 0
for i, key in ipairs(KEYS) do
  if tonumber(redis.call('GET', key) or '0') >= tonumber(ARGV[i]) then
    wait = math.max(wait, redis.call('PTTL', key))
  end
end
"""
_look = Script(_WAIT + "return wait")
_take = Script(
    _WAIT
    + """
if wait > 0 then return wait end
for i, key in ipairs(KEYS) do
  if redis.call('INCR', key) == 1 then redis.call('EXPIRE', key, ARGV[#KEYS + i]) end
end
return 0
"""
)
# A counter that has expired meanwhile is not made anew below zero, and one that was begun anew since the places were
# taken, which shows by the time it has left, is not the one they are owed to: budgets could be saved up.
_give_back = Script("""
for i, key in ipairs(KEYS) do
  if redis.call('PTTL', key) <= tonumber(ARGV[#KEYS + i]) then
    if tonumber(redis.call('GET', key) or '0') > tonumber(ARGV[i]) then
      redis.call('DECRBY', key, ARGV[i])
    else
      redis.call('DEL', key)
    end
  end
end
""")
# Milliseconds by which the clocks of two machines may differ: twice what `flask doctor` lets each be away from Redis's.
_CLOCKS_DIFFER_BY = 10_000
# More than any counter counts.
_ALL = 10**12


@dataclass(frozen=True)
class Asker:
    """Who asks, as far as budgets go: the canonical address asked about, the client's IP, and the id of the browser
    if it is known to that account (else "")."""

    email: str
    ip: str
    device: str = ""


def take(kind: Kind, asker: Asker) -> None:
    """Takes one place of each budget of `kind`. Raises TooMany, having taken none, if one of them is spent."""
    counters = _counters(kind, asker)
    keys = [key for key, _ in counters]
    arguments = [item.amount for _, item in counters] + [item.get_expiry() for _, item in counters]
    wait_ms = int(_take(keys, *arguments))
    if wait_ms > 0:
        metrics.LIMITS_HIT.labels(kind).inc()
        refusal = PasswordsSpent if kind == "passwords" else TooMany
        raise refusal(wait_ms / 1000, reason=f"{kind} budget spent")


def seconds_to_wait(kind: Kind, asker: Asker) -> float:
    """Seconds until a place of each budget of `kind` may be had; 0 if one may now."""
    counters = _counters(kind, asker)
    return int(_look([key for key, _ in counters], *(item.amount for _, item in counters))) / 1000


def give_back(kind: Kind, asker: Asker, places: int = 1, seconds_ago: float = 0) -> None:
    """Gives back places that were taken, `seconds_ago`, for work that turned out right."""
    _owe(_counters(kind, asker), places, seconds_ago)


def clear(asker: Asker) -> None:
    """Forgets the failures of the address, or of the browser known to it, after a finished sign-in; no others. One
    with a tag forgets nothing of the address without it, which may be somebody else's."""
    for kind in _PER:
        _owe(_of_address(kind, asker, asker.email), _ALL)


def network(ip: str) -> str:
    """What is counted as one client: an IPv4 address, or the /64 that one IPv6 subscriber has."""
    try:
        address = ip_address(ip.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def _owe(counters: list[tuple[str, RateLimitItem]], places: int, seconds_ago: float = 0) -> None:
    owed = {
        (key, round((item.get_expiry() - seconds_ago) * 1000) + _CLOCKS_DIFFER_BY): places for key, item in counters
    }
    if not has_request_context():
        _pay(owed)
        return
    if "_magicauth_places_owed" not in g:
        g._magicauth_places_owed = Counter()
        after_this_request(_settle)
    g._magicauth_places_owed.update(owed)


def _settle(response: Response) -> Response:
    # Where something fails after this, Flask comes here once more, and these are paid.
    places = g.pop("_magicauth_places_owed", None)
    # What was asked for is done, and is not undone by a Redis that cannot count any more.
    if places and not hung():
        try:
            _pay(places)
        except REDIS_IS_AWAY as error:
            note_hang(error)
    return response


def _pay(owed: dict[tuple[str, int], int]) -> None:
    _give_back([key for key, _ in owed], *owed.values(), *(milliseconds for _, milliseconds in owed))


def _counters(kind: Kind, asker: Asker) -> list[tuple[str, RateLimitItem]]:
    if asker.device:
        return _of_address(kind, asker, asker.email)
    config = current_app.config
    spellings = dict.fromkeys((asker.email, canonical_for_counting(asker.email)))
    return [
        *(counter for email in spellings for counter in _of_address(kind, asker, email)),
        *_keyed(kind, f"ip:{network(asker.ip)}", config[f"MAGICAUTH_LIMIT_{kind.upper()}_PER_IP"]),
        *_keyed(kind, "global:all", config[f"MAGICAUTH_LIMIT_{kind.upper()}_GLOBAL"]),
    ]


def _of_address(kind: Kind, asker: Asker, email: str) -> list[tuple[str, RateLimitItem]]:
    account = keyring().tag("limit", email)
    who = f"device:{asker.device}:{account}" if asker.device else f"account:{account}"
    return _keyed(kind, who, current_app.config[f"MAGICAUTH_LIMIT_{kind.upper()}_PER_{_PER[kind]}"])


def _keyed(kind: Kind, who: str, items: list[RateLimitItem]) -> list[tuple[str, RateLimitItem]]:
    return [(f"magicauth:{{limits}}:{kind}:{who}:{item.amount}/{item.get_expiry()}", item) for item in items]
