"""What another release has stored, while an upgrade rolls: an older one lacks fields, a newer one has more of them."""

import json

import pytest
from instruments import delivering, quiet_app, session_id
from msgspec.msgpack import Ext
from pages import EMAIL, PASSWORD, Letters, is_signed_in, sign_up

from magicauth import session_data
from magicauth.crypto import digest

# What a guarded page shows without SQL; each was or may be added by some release.
FACTS = ["name", "email", "phone", "admin", "has_password", "language", "joined", "updated"]


def rewrite(redis, client, change):
    """Changes what Redis holds of the browser's session, as another release would have written it."""
    key = f"magicauth:session:{digest(session_id(client))}"
    data = session_data.decode(redis.get(key))
    change(data)
    redis.set(key, session_data.encode(data), keepttl=True)
    return lambda: session_data.decode(redis.get(key))


@pytest.mark.parametrize("fact", FACTS)
def test_a_session_without_a_fact_is_brought_up_to_date(ada, redis, fact):
    before = {}
    now = rewrite(redis, ada, lambda data: before.update({fact: data.pop(fact)}))
    assert ada.get("/home").status_code == 200
    assert now()[fact] == before[fact]


@pytest.mark.parametrize(("path", "status"), [("/auth", 303), ("/nowhere", 404), ("/users/magic_link", 200)])
def test_every_page_opens_with_such_a_session(ada, redis, path, status):
    rewrite(redis, ada, lambda data: data.pop("joined"))
    assert ada.get(path).status_code == status


def test_such_a_session_can_be_ended(ada, redis):
    rewrite(redis, ada, lambda data: data.pop("joined"))
    assert ada.post("/logout").location == "/auth"
    assert not is_signed_in(ada)


def test_more_fields_than_this_release_knows_are_left_alone(redis, redis_url, tmp_path):
    with quiet_app(redis_url, tmp_path) as app:
        with delivering(app):
            sign_up(app.test_client())
        browser = app.test_client()
        browser.post("/auth", data={"email": EMAIL, "password": PASSWORD})
        (key,) = _open_sign_ins(redis)
        redis.hset(key, "later", "1")
        new = {99: "later", "cart": Ext(7, b"later")}
        now = rewrite(redis, browser, lambda data: (data["pending"].update(later=1), data.update(new)))
        jobs = "{magicauth-mail}:letters.msgs"
        ((number, job),) = redis.hgetall(jobs).items()
        message = json.loads(job)
        message["args"][0]["later"] = 1
        redis.hset(jobs, number, json.dumps(message))
        with delivering(app):
            code = Letters(app).last().code
        assert now()[99] == "later"
        assert browser.post("/verify", data={"OTP": code}).location == "/home"
        assert rewrite(redis, browser, lambda data: None)()["cart"] == Ext(7, b"later")


def _open_sign_ins(redis):
    return [key for key in redis.scan_iter("magicauth:challenge:*") if redis.hget(key, "purpose") == b"sign_in"]
