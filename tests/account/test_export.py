"""`/account/export`: everything that is held about one, as JSON."""

import json

import pytest
from bs4 import BeautifulSoup
from instruments import later, session_id
from pages import EMAIL, JSON, PASSWORD, other_browser, sign_in, sign_up

from magicauth.audit import before_export
from magicauth.models import AuditEvent, User

# Held, and not exported: secrets, what counts them, and a second spelling of the address.
NOT_EXPORTED = {"password_hash", "session_epoch", "canonical_email", "disabled"}


@pytest.fixture
def ada(client):
    """Ada's browser, signed in."""
    sign_up(client)
    client.post("/account", data={"name": "Ada Lovelace", "phone": "+44 20 7946"})
    return client


def test_the_page_leads_to_the_file(ada):
    page = BeautifulSoup(ada.get("/account/export").text, "html.parser")
    link = page.find("main").find("a", href="/account/export.json")
    # With it a browser would save the page that asks who one is.
    assert "download" not in link.attrs
    assert ada.get("/account/export", headers=JSON).get_json()["next"] == "/account/export.json"


def test_the_file_holds_profile_sessions_and_activity(ada):
    phone = other_browser(ada)
    sign_in(phone)
    answer = ada.get("/account/export.json")
    assert answer.mimetype == "application/json"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="magicauth-export.json"'
    assert answer.headers["Cache-Control"] == "no-store"
    content = answer.get_json()
    user = content["user"]
    assert (user["name"], user["email"], user["phone"]) == ("Ada Lovelace", EMAIL, "+44 20 7946")
    assert (user["is_admin"], user["has_password"]) == (False, True)
    assert [session["current"] for session in content["sessions"]].count(True) == 1 and len(content["sessions"]) == 2
    actions = [event["action"] for event in content["activity"]]
    assert actions == ["user:exported", "user:signed_in", "user:profile:changed", "user:signed_up"]
    assert "user:exported" in ada.get("/account/activity", headers=JSON).text


def test_everything_that_is_held_is_in_it(ada):
    """A column that is added later must be exported, or be named here as a secret."""
    user = set(ada.get("/account/export.json").get_json()["user"]) - {"has_password"}
    assert user == {column.key for column in User.__table__.columns} - NOT_EXPORTED
    event = set(ada.get("/account/export.json").get_json()["activity"][0])
    assert event == {column.key for column in AuditEvent.__table__.columns} - {"id", "user_id", "subject", "ip"} | {
        "address"
    }


def test_no_secret_is_in_it(app, ada, mailbox):
    thief = other_browser(ada)
    thief.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    letter = mailbox.last(EMAIL)
    text = ada.get("/account/export.json").text
    with app.app_context():
        password_hash = User.by_email(EMAIL).password_hash
    secrets = [PASSWORD, password_hash, "argon2", letter.code, letter.token, session_id(ada), session_id(thief)]
    assert not [secret for secret in secrets if secret in text]


def test_nothing_of_anybody_else_is_in_it(ada):
    eve = other_browser(ada)
    sign_up(eve, "eve@example.org", name="Eve")
    text = json.dumps(eve.get("/account/export.json").get_json())
    assert EMAIL not in text and "Ada" not in text
    assert len(eve.get("/account/export.json").get_json()["sessions"]) == 1


@pytest.mark.parametrize("path", ["/account/export", "/account/export.json"])
def test_a_stranger_or_a_stale_sign_in_is_refused_and_led_to_the_page_that_offers_it(ada, redis, path):
    stranger = other_browser(ada)
    assert stranger.get(path).location == "/auth?next=/account/export"
    assert stranger.get(path, headers=JSON).status_code == 401
    with later(redis, 901):
        assert ada.get(path).location == "/auth/fresh"
        answer = ada.get(path, headers=JSON)
        assert (answer.status_code, answer.get_json()["message"]) == (403, "Fresh sign-in required.")
        assert ada.post("/auth/fresh", data={"password": PASSWORD}).location == "/account/export"


def test_what_a_site_holds_is_in_it_and_stands_for_nothing_of_ours(ada):
    def notes(_, user):
        return {"notes": [user.email], "user": "mine"}

    with before_export.connected_to(notes), before_export.connected_to(lambda *_, **__: None):
        held = ada.get("/account/export.json").get_json()
    assert held["notes"] == [EMAIL] and held["user"]["email"] == EMAIL
    with before_export.connected_to(lambda *_, **__: {"notes": object()}), pytest.raises(AssertionError):
        ada.get("/account/export.json")
    events = ada.get("/account/activity", headers=JSON).get_json()["events"]
    assert [event["action"] for event in events].count("user:exported") == 1
    assert "notes" not in ada.get("/account/export.json").get_json()
