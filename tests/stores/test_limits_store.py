"""Budgets against a real Redis: taken all or none, given back, never below nothing."""

import pytest
from instruments import at_once, later

from magicauth import limits
from magicauth.errors import TooMany
from magicauth.limits import Asker

ADA = Asker("ada@example.org", "192.0.2.7")
SETTINGS = {
    "MAGICAUTH_LIMIT_PASSWORDS_PER_ACCOUNT": "3 per minute; 5 per hour",
    "MAGICAUTH_LIMIT_PASSWORDS_PER_IP": "8 per minute",
    "MAGICAUTH_LIMIT_PASSWORDS_GLOBAL": "12 per minute",
}


@pytest.fixture
def app(make_app):
    """Small budgets, in a context that the store can run in outside of a request."""
    app = make_app(**SETTINGS)
    with app.app_context():
        yield app


def taken(asker, count, kind="passwords"):
    """How many of `count` places are granted."""
    granted = 0
    for _ in range(count):
        try:
            limits.take(kind, asker)
            granted += 1
        except TooMany:
            pass
    return granted


def counters(redis):
    """What Redis has counted."""
    return {key.decode(): int(redis.get(key)) for key in redis.keys("magicauth:*limits*")}


def test_a_budget_is_granted_to_its_end(app):
    assert taken(ADA, 10) == 3


def test_every_budget_of_a_setting_counts(app, redis):
    assert taken(ADA, 10) == 3
    with later(redis, 61):
        assert taken(ADA, 10) == 2
        with later(redis, 61):
            assert taken(ADA, 10) == 0
            with later(redis, 3600):
                assert taken(ADA, 10) == 3


def test_the_wait_is_that_of_the_slowest_budget_that_is_spent(app, redis):
    taken(ADA, 3)
    with pytest.raises(TooMany) as refused:
        limits.take("passwords", ADA)
    assert 30 <= refused.value.retry_after <= 60
    with later(redis, 61):
        taken(ADA, 2)
        with pytest.raises(TooMany) as refused:
            limits.take("passwords", ADA)
        assert 3400 <= refused.value.retry_after <= 3540


def test_all_or_none_are_taken(app, redis):
    assert taken(ADA, 3) == 3
    before = counters(redis)
    assert taken(ADA, 20) == 0
    assert counters(redis) == before


def test_of_a_hundred_at_once_no_more_are_granted_than_there_are(app):
    def take(_):
        with app.app_context():
            return taken(ADA, 1)

    assert sum(at_once(100, take)) == 3


def test_of_a_hundred_from_many_addresses_the_clients_budget_is_granted(app):
    def take(number):
        with app.app_context():
            return taken(Asker(f"x{number}@example.org", "192.0.2.7"), 1)

    assert sum(at_once(100, take)) == 8


def test_of_a_hundred_from_everywhere_the_budget_of_all_is_granted(app):
    def take(number):
        with app.app_context():
            return taken(Asker(f"x{number}@example.org", f"198.51.100.{number}"), 1)

    assert sum(at_once(100, take)) == 12


def test_a_place_that_was_given_back_can_be_taken_again(app, redis):
    for _ in range(20):
        limits.take("passwords", ADA)
        limits.give_back("passwords", ADA)
    assert counters(redis) == {}
    assert taken(ADA, 10) == 3


def test_giving_back_what_was_not_taken_makes_no_credit(app, redis):
    limits.give_back("passwords", ADA, 50)
    assert counters(redis) == {}
    assert taken(ADA, 2) == 2
    limits.give_back("passwords", ADA, 50)
    assert counters(redis) == {}
    assert taken(ADA, 10) == 3


def test_taken_and_given_back_by_many_at_once_nothing_is_lost(app, redis):
    def one(_):
        with app.app_context():
            if taken(ADA, 1):
                limits.give_back("passwords", ADA)

    at_once(60, one)
    assert counters(redis) == {}


def test_every_counter_ends_by_itself(app, redis):
    for kind in ("mails", "codes", "passwords"):
        limits.take(kind, ADA)
        limits.take(kind, ADA)
        limits.take(kind, Asker(ADA.email, ADA.ip, "device"))
        limits.give_back(kind, ADA)
    keys = redis.keys("magicauth:*limits*")
    assert len(keys) >= 10
    assert all(0 < redis.ttl(key) <= 86_400 for key in keys)


def test_taking_again_does_not_prolong_the_window(app, redis):
    limits.take("passwords", ADA)
    with later(redis, 30):
        limits.take("passwords", ADA)
        (minute,) = redis.keys("magicauth:*passwords:account:*3/60")
        assert redis.ttl(minute) <= 30


def test_kinds_addresses_and_devices_are_counted_apart(app):
    assert taken(ADA, 4) == 3
    assert taken(Asker("eve@example.org", ADA.ip), 4) == 3
    assert taken(Asker(ADA.email, ADA.ip, "one"), 4) == 3
    assert taken(Asker(ADA.email, ADA.ip, "two"), 4) == 3
    assert taken(ADA, 4, "mails") == 4


def test_a_known_device_draws_on_no_budget_of_strangers(app, redis):
    for number in range(12):
        taken(Asker(f"x{number}@example.org", f"198.51.100.{number}"), 1)
    assert taken(Asker("new@example.org", "203.0.113.1"), 1) == 0
    assert taken(Asker(ADA.email, ADA.ip, "known"), 4) == 3


def test_clearing_forgets_the_accounts_own_failures_and_no_others(app, redis):
    device, eve = Asker(ADA.email, ADA.ip, "known"), Asker("eve@example.org", ADA.ip)
    for asker in (ADA, device, eve):
        assert taken(asker, 3) == 3
    limits.clear(ADA)
    assert taken(device, 1) == 0 and taken(eve, 1) == 0
    # Six were counted for the client address before, and still are.
    assert taken(ADA, 3) == 2
    limits.clear(device)
    assert taken(device, 4) == 3


def test_no_address_stands_in_the_keys(app, redis):
    for kind in ("mails", "codes", "passwords"):
        limits.take(kind, ADA)
    assert not any("ada" in key or "example" in key for key in counters(redis))


def test_all_counters_share_one_slot_of_a_cluster(app, redis):
    for kind in ("mails", "codes", "passwords"):
        limits.take(kind, ADA)
    assert {key.partition("{")[2].partition("}")[0] for key in counters(redis)} == {"limits"}


@pytest.mark.parametrize(
    ("ip", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:0DB8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unknown"),
        ("nonsense", "unknown"),
        ("192.0.2.7, 10.0.0.1", "unknown"),
    ],
)
def test_what_counts_as_one_client(ip, counted):
    assert limits.network(ip) == counted
