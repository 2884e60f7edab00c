"""`/account/delete`: deleting the account, for good."""

import pytest
from flask import abort
from flask.testing import FlaskClient
from instruments import delivering, later, letters_waiting, quiet_app, session_id
from pages import EMAIL, JSON, PASSWORD, Letters, is_signed_in, other_browser, sign_in, sign_up
from sqlalchemy.orm.exc import StaleDataError
from world import database_dump, redis_dump

from magicauth import audit
from magicauth.audit import before_deletion
from magicauth.flows import deletion
from magicauth.models import User
from magicauth.visitor import visitor

NAME, PHONE = "Augusta Ada King-Noel", "+44 20 7946 0958"


@pytest.fixture
def ada(client):
    """Ada's browser, signed in."""
    sign_up(client)
    client.post("/account", data={"name": NAME, "phone": PHONE})
    return client


def test_the_account_is_gone_and_everybody_is_signed_out(app, ada, mailbox):
    phone = other_browser(ada)
    sign_in(phone)
    done = ada.post("/account/delete", data={"email": EMAIL})
    assert (done.status_code, done.location) == (303, "/auth")
    assert not is_signed_in(ada) and not is_signed_in(phone)
    assert "deleted" in mailbox.last(EMAIL).subject
    stranger = other_browser(ada)
    assert stranger.post("/auth", json={"email": EMAIL, "password": PASSWORD}).status_code == 401
    stranger.post("/auth", data={"email": EMAIL})
    assert mailbox.last(EMAIL).code is None and "/users/signup" in mailbox.last(EMAIL).link
    assert app.test_cli_runner().invoke(args=["users", "show", EMAIL]).exit_code == 1


def test_links_of_warnings_and_of_a_change_of_address_go_with_it(ada, mailbox, redis):
    ada.post("/account/password", data={"old_password": PASSWORD, "password": "another long phrase"})
    mailbox.last(EMAIL)
    ada.post("/account/email", data={"email": "ada@lovelace.example"})
    mailbox.last("ada@lovelace.example")
    assert len(redis.keys("magicauth:challenge:*")) == 2
    assert ada.post("/account/delete", data={"email": EMAIL}).location == "/auth"
    assert redis.keys("magicauth:challenge:*") == []


def test_a_thief_who_deletes_the_account_at_once_stops_no_warning(redis, redis_url, tmp_path):
    with quiet_app(redis_url, tmp_path) as app:
        thief, mailbox = app.test_client(), Letters(app)
        sign_up(thief)
        with delivering(app):
            thief.post("/account/email", data={"email": "thief@example.org"})
            code = mailbox.last("thief@example.org").code
        thief.post("/verify", data={"OTP": code})
        thief.post("/account/delete", data={"email": "thief@example.org"})
        with delivering(app):
            assert mailbox.last(EMAIL).subject == "Your address at magicauth was changed"


def test_the_letter_says_who_deleted_it(app, ada, mailbox):
    other = other_browser(ada)
    sign_up(other, "bob@example.org")
    ada.post("/account/delete", data={"email": EMAIL})
    app.test_cli_runner().invoke(args=["users", "delete", "bob@example.org", "--yes"])
    for said in (mailbox.last(EMAIL).text, mailbox.last(EMAIL).html):
        assert "as you asked" in said and "administrator" not in said
    for said in (mailbox.last("bob@example.org").text, mailbox.last("bob@example.org").html):
        assert "An administrator of" in said and "as you asked" not in said


def test_before_it_a_site_finds_what_goes_along(app, ada):
    found = []

    def look(_, user):
        found.append((user.email, User.by_email(EMAIL) is not None))

    with before_deletion.connected_to(look):
        ada.post("/account/delete", data={"email": EMAIL})
    assert found == [(EMAIL, True)] and not is_signed_in(ada)


def test_a_site_that_cannot_let_it_go_keeps_it(app, ada, mailbox):
    def refuse(*_, **__):
        raise OSError("the disk with her files is away")

    letters = len(mailbox.all())
    # One that takes a 500.
    client = FlaskClient(app)
    client.set_cookie("magicauth", session_id(ada))
    with before_deletion.connected_to(refuse):
        assert client.post("/account/delete", data={"email": EMAIL}).status_code == 500
    assert is_signed_in(ada) and len(mailbox.all()) == letters


def test_a_site_is_not_asked_about_a_deletion_that_comes_to_nothing(app, ada):
    asked = []
    with app.test_request_context(), before_deletion.connected_to(lambda *_, **__: asked.append("asked")):
        user, asking = User.by_email(EMAIL), visitor()
        ada.post("/account/sessions/end_others")
        with pytest.raises(StaleDataError):
            deletion.delete(user, asking, by_owner=True)
    assert asked == [] and is_signed_in(ada)


def test_it_is_asked_before_the_letter_is_written_and_may_take_its_time(app, ada, redis):
    waiting = []
    with before_deletion.connected_to(lambda *_, **__: waiting.append(letters_waiting(redis))):
        ada.post("/account/delete", data={"email": EMAIL})
    assert waiting == [0]


def test_an_operator_is_told_why_it_was_refused(app, ada):
    def refuse(*_, **__):
        abort(409, description="She has open orders.")

    with before_deletion.connected_to(refuse):
        done = app.test_cli_runner().invoke(args=["users", "delete", EMAIL, "--yes"])
    assert (done.exit_code, done.stderr) == (1, "Error: She has open orders.\n")
    assert is_signed_in(ada)


def test_that_an_operator_did_it_is_recorded(app, ada):
    app.test_cli_runner().invoke(args=["users", "delete", EMAIL, "--yes"])
    with app.app_context():
        (event, *_) = audit.latest(1)
    assert (event.action, event.browser) == ("user:deleted", "command line")


def test_as_json(ada):
    answer = ada.post("/account/delete", json={"email": EMAIL})
    assert answer.get_json() == {"status": "SUCCESS", "message": "Account deleted.", "next": "/auth"}


@pytest.mark.parametrize("typed", ["", "eve@example.org", "ada", "yes", None, True, [EMAIL], "ada@example.org,"])
def test_without_the_address_typed_nothing_is_deleted(ada, mailbox, typed):
    letters = len(mailbox.all())
    answer = ada.post("/account/delete", json={"email": typed})
    assert (answer.status_code, list(answer.get_json()["errors"])) == (400, ["email"])
    assert is_signed_in(ada) and len(mailbox.all()) == letters
    assert sign_in(other_browser(ada)).location == "/home"


def test_the_address_may_be_typed_in_any_case(ada):
    assert ada.post("/account/delete", data={"email": f" {EMAIL.upper()} "}).location == "/auth"


def test_looking_at_the_page_deletes_nothing(ada):
    page = ada.get(f"/account/delete?email={EMAIL}")
    assert page.status_code == 200
    assert f'value="{EMAIL}"' not in page.text
    assert is_signed_in(ada)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_stranger_or_a_stale_sign_in_is_refused(ada, redis, method):
    stranger = other_browser(ada)
    assert stranger.open("/account/delete", method=method).location == "/auth?next=/account/delete"
    assert stranger.open("/account/delete", method=method, headers=JSON).status_code == 401
    with later(redis, 901):
        assert ada.open("/account/delete", method=method, data={"email": EMAIL}).location == "/auth/fresh"
        assert ada.open("/account/delete", method=method, headers=JSON, data={"email": EMAIL}).status_code == 403
        assert is_signed_in(ada)


def test_what_is_personal_is_gone_and_the_audit_keeps_a_keyed_hash(app, client, mailbox, redis):
    # Before there was an account somebody tried the address, from an address of their own.
    other_browser(client).post(
        "/auth", json={"email": EMAIL, "password": "x"}, environ_overrides={"REMOTE_ADDR": "203.0.113.7"}
    )
    sign_up(client)
    client.post("/account", data={"name": NAME, "phone": PHONE})
    other_browser(client).post(
        "/auth", json={"email": EMAIL, "password": "x"}, environ_overrides={"REMOTE_ADDR": "203.0.113.8"}
    )
    before = database_dump(app)
    assert all(text in before for text in (EMAIL, NAME, PHONE, "argon2", "203.0.113.7", "203.0.113.8"))
    client.post("/account/delete", data={"email": EMAIL})
    mailbox.all()
    after = database_dump(app)
    personal = (EMAIL, NAME, PHONE, "argon2", "203.0.113.7", "203.0.113.8", "127.0.0.1")
    assert not [text for text in personal if text in after]
    audit = app.test_cli_runner().invoke(args=["audit", "--user", EMAIL, "--json"]).stdout
    for action in ("user:deleted", "user:profile:changed", "user:signed_up", "user:sign_in:refused"):
        assert action in audit
    kept = "\n".join(redis_dump(redis))
    assert not [text for text in (NAME, PHONE, "magicauth:session:") if text in kept]


@pytest.mark.parametrize("start", ["/auth", "/auth/reset"])
def test_what_was_open_leads_nowhere(ada, mailbox, start):
    thief = other_browser(ada)
    thief.post(start, data={"email": EMAIL})
    letter = mailbox.last(EMAIL)
    ada.post("/account/delete", data={"email": EMAIL})
    assert thief.post("/verify", json={"OTP": letter.code}).status_code == 404
    assert other_browser(ada).post("/auth/link", json={"token": letter.token, "email": EMAIL}).status_code in (403, 404)
    assert not is_signed_in(thief)


def test_warnings_and_ways_back_lead_nowhere(ada, mailbox):
    ada.post("/account/email", data={"email": "ada@new.example.org"})
    ada.post("/verify", data={"OTP": mailbox.last("ada@new.example.org").code})
    undo = mailbox.last(EMAIL)
    sign_in(other_browser(ada), "ada@new.example.org")
    not_me = mailbox.last("ada@new.example.org")
    ada.post("/account/delete", data={"email": "ada@new.example.org"})
    stranger = other_browser(ada)
    assert stranger.post(undo.link, json={}).status_code == 403
    assert stranger.post(not_me.link, json={}).status_code == 403


def test_the_address_may_sign_up_again_and_finds_nothing_of_before(ada):
    before = ada.get("/account", headers=JSON).get_json()["user"]["id"]
    ada.post("/account/delete", data={"email": EMAIL})
    assert sign_up(ada, name="Ada").location == "/home"
    user = ada.get("/account", headers=JSON).get_json()["user"]
    assert user["id"] != before and (user["name"], user["phone"]) == ("Ada", None)
    events = ada.get("/account/activity", headers=JSON).get_json()["events"]
    assert [event["action"] for event in events] == ["user:signed_up"]


def test_an_account_without_a_password_can_be_deleted(make_app):
    client = make_app(MAGICAUTH_PASSWORDS="off").test_client()
    sign_up(client, password="")
    assert client.post("/account/delete", data={"email": EMAIL}).location == "/auth"
    assert not is_signed_in(client)
