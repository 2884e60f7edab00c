"""`/account/activity`: what happened in the account, for its owner."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from pages import EMAIL, JSON, PASSWORD, other_browser, sign_in, sign_up

from magicauth.models import WORDS, Action

FIREFOX = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
ELSEWHERE = {"REMOTE_ADDR": "203.0.113.9"}


def events(client, path="/account/activity"):
    return client.get(path, headers=JSON).get_json()["events"]


def test_what_happened_is_listed_newest_first(ada):
    ada.post("/account", data={"name": "Ada"})
    ada.post("/account/sessions/end_others")
    assert [event["action"] for event in events(ada)] == [
        "user:sessions:ended",
        "user:profile:changed",
        "user:signed_up",
    ]
    assert set(events(ada)[0]) == {"at", "action", "result", "address", "browser"}
    moments = [event["at"] for event in events(ada)]
    assert moments == sorted(moments, reverse=True) and all(moment.endswith("Z") for moment in moments)


def test_the_page_tells_it_in_words(ada):
    ada.post("/account", data={"name": "Ada"})
    shown = BeautifulSoup(ada.get("/account/activity").text, "html.parser").find("main").get_text()
    assert shown.index("Profile changed") < shown.index("Account made")


def test_who_tried_and_from_where_is_shown_to_the_owner(ada, mailbox):
    thief = other_browser(ada)
    thief.post("/auth", data={"email": EMAIL, "password": "not the one"}, headers=FIREFOX, environ_overrides=ELSEWHERE)
    thief.post("/auth", data={"email": EMAIL, "password": PASSWORD}, headers=FIREFOX, environ_overrides=ELSEWHERE)
    thief.post("/verify", data={"OTP": "x"}, headers=FIREFOX, environ_overrides=ELSEWHERE)
    wrong_code, wrong_password = events(ada)[:2]
    for event, result in ((wrong_code, "wrong code"), (wrong_password, "wrong password")):
        assert (event["action"], event["result"]) == ("user:sign_in:refused", result)
        assert (event["address"], event["browser"]) == ("203.0.113.9", "Firefox on Linux")
    assert "wrong code" in ada.get("/account/activity").text


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/auth/fresh", {"password": "not the one"}),
        ("/account/password", {"old_password": "not the one", "password": "seven other horses graze"}),
    ],
)
def test_a_thief_in_the_session_who_guesses_at_the_password_leaves_a_trace(ada, path, form):
    assert ada.post(path, json=form).status_code == 401
    assert (events(ada)[0]["action"], events(ada)[0]["result"]) == ("user:sign_in:refused", "wrong password")


def test_what_a_browser_says_of_itself_is_never_repeated(ada):
    thief = other_browser(ada)
    thief.post(
        "/auth", data={"email": EMAIL, "password": "x"}, headers={"User-Agent": "Firefox/<b>you won</b> evil.example"}
    )
    page = ada.get("/account/activity").text
    assert "evil.example" not in page and "you won" not in page


def test_what_only_a_newer_release_knows_is_named_as_it_was_recorded(ada):
    with closing(sqlite3.connect(Path(ada.application.instance_path) / "magicauth.sqlite3")) as database, database:
        database.execute("UPDATE audit SET action = 'user:<b>:100%s'")
    assert [event["action"] for event in events(ada)] == ["user:<b>:100%s"]
    assert "user:&lt;b&gt;:100%s" in ada.get("/account/activity").text


def test_nobody_sees_what_happened_to_somebody_else(ada):
    eve = other_browser(ada)
    sign_up(eve, "eve@example.org", name="Eve")
    assert [event["action"] for event in events(eve)] == ["user:signed_up"]
    # From the newest id there can be: all that anybody could be shown.
    assert len(events(eve, f"/account/activity?before={'f' * 32}")) == 1


def test_older_events_are_a_page_away(ada):
    for number in range(102):
        ada.post("/account", json={"name": f"Ada {number}"})
    path, seen = "/account/activity", []
    while path:
        answer = ada.get(path, headers=JSON).get_json()
        seen.append(len(answer["events"]))
        path = answer["next"]
    assert seen == [50, 50, 3]
    page = BeautifulSoup(ada.get("/account/activity").text, "html.parser")
    older = page.find("a", rel="next")["href"]
    assert not BeautifulSoup(ada.get(f"{older}").text, "html.parser").find("main").find(string="Nothing yet.")


BAD_PLACES = ["", "x", "0" * 32, "..", "9d1f3a44-2f1c-4a39-8a0b-5b8f0f2f6a11", "1&before=2", "%00", "\U0001f511"]


@pytest.mark.parametrize("before", BAD_PLACES)
def test_a_bad_place_to_begin_is_no_error(ada, before):
    assert ada.get(f"/account/activity?before={before}", headers=JSON).status_code == 200


def test_a_stranger_is_sent_to_sign_in_and_back(client):
    assert client.get("/account/activity").location == "/auth?next=/account/activity"
    assert client.get("/account/activity", headers=JSON).status_code == 401


def test_signing_in_and_out_is_told(ada):
    ada.post("/logout")
    sign_in(ada)
    assert [event["action"] for event in events(ada)] == ["user:signed_in", "user:signed_out", "user:signed_up"]


def test_every_action_has_words_for_its_owner():
    assert set(WORDS) == set(Action)
