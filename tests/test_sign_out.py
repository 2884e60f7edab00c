"""Signing out: the session is destroyed on the server."""

import sqlite3
from contextlib import closing
from pathlib import Path

from instruments import same_browser, session_id
from pages import EMAIL, JSON, PASSWORD, is_signed_in, other_browser, sign_in, sign_up

from magicauth import sessions


def test_signing_out_ends_the_session_on_the_server(client, redis):
    sign_up(client)
    kept = same_browser(client)
    assert is_signed_in(kept)
    answer = client.post("/logout")
    assert (answer.status_code, answer.location) == (303, "/auth")
    assert not is_signed_in(client)
    # A thief who copied the cookie before holds nothing.
    assert not is_signed_in(kept)
    assert redis.keys("magicauth:session:*") == []
    assert [redis.zcard(key) for key in redis.keys("magicauth:sessions-of:*")] == []


def test_the_session_cookie_goes_and_the_device_cookie_stays(client):
    sign_up(client)
    device = client.get_cookie("magicauth-device").value
    answer = client.post("/logout")
    assert session_id(client) == ""
    assert client.get_cookie("magicauth-device").value == device
    (line,) = [line for line in answer.headers.getlist("Set-Cookie") if line.startswith("magicauth=")]
    assert "Max-Age=0" in line and "Path=/" in line and "HttpOnly" in line


def test_the_browser_is_told_to_forget_what_it_was_shown(client):
    sign_up(client)
    assert client.get("/home").headers["Cache-Control"] == "no-store"
    assert client.post("/logout").headers["Clear-Site-Data"] == '"cache"'


def test_signing_out_as_json(client):
    sign_up(client)
    answer = client.post("/logout", json={})
    assert (answer.status_code, answer.get_json()["status"]) == (200, "SUCCESS")
    again = client.post("/logout", json={})
    assert (again.status_code, again.get_json()["message"]) == (401, "Sign in required.")


def test_who_is_not_signed_in_is_led_to_the_sign_in_page_without_a_next(client):
    answer = client.post("/logout")
    assert (answer.status_code, answer.location) == (303, "/auth")
    assert session_id(client) == ""


def test_signing_out_is_done_though_the_database_cannot_record_it(client, app):
    sign_up(client)
    kept = same_browser(client)
    with closing(sqlite3.connect(Path(app.instance_path) / "magicauth.sqlite3")) as operator:
        operator.execute("CREATE TRIGGER no BEFORE INSERT ON audit BEGIN INSERT INTO nowhere VALUES (1); END")
        answer = client.post("/logout")
        operator.execute("DROP TRIGGER no")
    assert (answer.location, answer.headers["Clear-Site-Data"]) == ("/auth", '"cache"')
    assert not is_signed_in(kept)


def test_a_get_signs_nobody_out(client):
    sign_up(client)
    answer = client.get("/logout")
    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]
    assert is_signed_in(client)


def test_another_sites_page_signs_nobody_out(client):
    sign_up(client)
    assert client.post("/logout", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client.post("/logout", headers={"Origin": "https://evil.example"}).status_code == 403
    assert is_signed_in(client)


def test_other_browsers_stay_signed_in(client):
    sign_up(client)
    other = other_browser(client)
    sign_in(other)
    client.post("/logout")
    assert is_signed_in(other)


def test_a_sign_in_under_way_beside_the_session_ends_with_it(client, mailbox):
    sign_up(client)
    client.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    code = mailbox.last().code
    client.post("/logout")
    assert client.get("/verify", headers=JSON).status_code == 404
    assert client.post("/verify", json={"OTP": code}).status_code == 404


def test_somebody_else_can_sign_in_afterwards(client):
    sign_up(client)
    client.post("/logout")
    sign_up(client, "eve@example.org", name="Eve")
    assert client.get("/home", headers=JSON).get_json()["user"]["email"] == "eve@example.org"


def test_a_session_that_is_renewed_just_while_it_is_ended_does_not_outlive_it(ada, monkeypatch):
    tab, end = same_browser(ada), sessions.SessionInterface._end

    def renew_and_end(interface, session):
        monkeypatch.setattr(sessions.SessionInterface, "_end", end)
        assert tab.post("/auth/fresh", data={"password": PASSWORD}).status_code == 303
        return end(interface, session)

    monkeypatch.setattr(sessions.SessionInterface, "_end", renew_and_end)
    assert ada.post("/logout").location == "/auth"
    assert not is_signed_in(tab)
