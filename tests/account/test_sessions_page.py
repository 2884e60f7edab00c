"""`/account/sessions`: where one is signed in; ending one session, or all others, for good."""

from contextlib import contextmanager

import pytest
from bs4 import BeautifulSoup
from instruments import at_once, failing, later, raise_epoch, session_id
from pages import EMAIL, JSON, PASSWORD, Letters, is_signed_in, other_browser, sign_in, sign_up
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy import event

from magicauth import audit, sessions
from magicauth.extensions import db
from magicauth.models import Action

FIREFOX = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
NEW_PASSWORD = "seven other horses graze"


@pytest.fixture
def phone(ada):
    """Another browser of Ada's, signed in."""
    phone = other_browser(ada)
    sign_in(phone)
    return phone


def listed(client):
    return client.get("/account/sessions", headers=JSON).get_json()["sessions"]


def handle_of(client):
    """The name that the list gives to the browser's own session."""
    return next(session["session"] for session in listed(client) if session["current"])


def as_browser(app, cookie):
    """A browser that shows a session cookie."""
    browser = app.test_client()
    browser.set_cookie("magicauth", cookie)
    return browser


@contextmanager
def redis_losing_deletions(redis):
    """A failover to a replica that had not heard of what is deleted inside the block."""
    kept = {key: (redis.dump(key), max(0, redis.pttl(key))) for key in redis.scan_iter("magicauth:*")}
    yield
    for key, (value, ttl) in kept.items():
        if not redis.exists(key):
            redis.restore(key, ttl, value)


# --- the list --------------------------------------------------------------------------------------------------------


def test_every_live_session_is_listed_and_this_one_marked(ada, mailbox):
    phone = other_browser(ada)
    phone.post("/auth", data={"email": EMAIL, "password": PASSWORD}, headers=FIREFOX)
    phone.post(
        "/verify", data={"OTP": mailbox.last().code}, headers=FIREFOX, environ_overrides={"REMOTE_ADDR": "203.0.113.9"}
    )
    sessions = listed(ada)
    assert len(sessions) == 2
    assert set(sessions[0]) == {"session", "browser", "address", "created_at", "seen_at", "current"}
    (here,) = [session for session in sessions if session["current"]]
    (there,) = [session for session in sessions if not session["current"]]
    assert here["address"] == "127.0.0.1"
    assert (there["browser"], there["address"]) == ("Firefox on Linux", "203.0.113.9")
    assert all(session[moment].endswith("Z") for session in sessions for moment in ("created_at", "seen_at"))


def test_the_page_has_a_button_for_each_other_session(ada, phone):
    page = BeautifulSoup(ada.get("/account/sessions").text, "html.parser")
    assert page.get_text().count("This browser") == 1
    handles = [field["value"] for field in page.find_all("input", {"name": "session"})]
    assert handles == [handle_of(phone)]


def test_an_address_of_ipv4_is_shown_as_one_though_the_listener_speaks_ipv6_too(ada):
    other = other_browser(ada)
    other.environ_base["REMOTE_ADDR"] = "::ffff:203.0.113.9"
    sign_in(other)
    listed = ada.get("/account/sessions", headers=JSON).get_json()["sessions"]
    assert [session["address"] for session in listed if not session["current"]] == ["203.0.113.9"]


def test_ending_sessions_wants_a_fresh_sign_in(make_app, redis):
    # A thief with a stolen cookie could end every sign-in that its owner begins, as soon as it is begun.
    thief = make_app(MAGICAUTH_FRESH_FOR=300).test_client()
    sign_up(thief)
    owner = other_browser(thief)
    owner.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    with later(redis, 400):
        assert thief.post("/account/sessions/end_others").location == "/auth/fresh"
        for one in listed(thief):
            assert thief.post("/account/sessions/end", json={"session": one["session"]}).status_code == 403
        code = Letters(thief.application).last(EMAIL).code
        assert owner.post("/verify", data={"OTP": code}).location == "/home"


def test_who_is_alone_is_told_once_that_others_were_ended(ada, mailbox):
    before = len(mailbox.all(EMAIL))
    for _ in range(3):
        assert ada.post("/account/sessions/end_others").location == "/account/sessions"
    assert len(mailbox.all(EMAIL)) == before + 1
    for number in range(2):
        sign_in(other_browser(ada))
        ada.post("/account/sessions/end_others")
        assert len([letter for letter in mailbox.all(EMAIL) if "signed out" in letter.subject]) == 2 + number


def test_the_latest_used_comes_first(ada, phone, redis):
    with later(redis, 61):
        assert is_signed_in(ada)
        assert [session["current"] for session in listed(ada)] == [True, False]
        first, second = listed(ada)
        assert first["seen_at"] > second["seen_at"]


def test_what_has_expired_or_was_signed_out_is_not_listed(ada, phone, redis):
    third = other_browser(ada)
    sign_in(third)
    third.post("/logout")
    assert len(listed(ada)) == 2
    with later(redis, 1000):
        assert is_signed_in(ada)
        with later(redis, 1000):
            assert [session["current"] for session in listed(ada)] == [True]


def test_an_account_has_so_many_sessions_and_the_first_to_end_makes_room(ada, monkeypatch):
    monkeypatch.setattr(sessions, "_SESSIONS_MOST", 3)
    others = [other_browser(ada) for _ in range(4)]
    for other in others[:2]:
        sign_in(other, remember="on")
    assert is_signed_in(ada)
    # What is renewed takes no other's place.
    before = session_id(others[0])
    assert others[0].post("/auth/fresh", data={"password": PASSWORD}).location and session_id(others[0]) != before
    assert [is_signed_in(browser) for browser in (ada, *others[:2])] == [True] * 3
    for other in others[2:]:
        # One that would be the first to end itself.
        sign_in(other)
    assert [is_signed_in(browser) for browser in (ada, *others)] == [False, True, True, False, True]
    assert len(listed(others[0])) == 3


def test_a_sign_in_under_way_is_no_session_yet(ada):
    other_browser(ada).post("/auth", data={"email": EMAIL, "password": PASSWORD})
    assert len(listed(ada)) == 1


def test_nobody_sees_the_sessions_of_somebody_else(ada):
    eve = other_browser(ada)
    sign_up(eve, "eve@example.org")
    assert [session["current"] for session in listed(eve)] == [True]


def test_a_handle_opens_nothing_and_the_cookie_stands_nowhere(app, ada, phone):
    answers = ada.get("/account/sessions").text + ada.get("/account/sessions", headers=JSON).text
    assert session_id(ada) not in answers and session_id(phone) not in answers
    assert not is_signed_in(as_browser(app, handle_of(phone)))
    assert not is_signed_in(as_browser(app, handle_of(phone).ljust(43, "A")))


@pytest.mark.parametrize("path", ["/account/sessions", "/account/sessions/end", "/account/sessions/end_others"])
def test_a_stranger_is_sent_to_sign_in(client, path):
    method = "GET" if path.endswith("sessions") else "POST"
    assert client.open(path, method=method).location.startswith("/auth")
    assert client.open(path, method=method, headers=JSON).status_code == 401


# --- ending one ------------------------------------------------------------------------------------------------------


def test_one_session_is_ended_and_no_other(ada, phone):
    tablet = other_browser(ada)
    sign_in(tablet)
    ended = ada.post("/account/sessions/end", data={"session": handle_of(phone)})
    assert (ended.status_code, ended.location) == (303, "/account/sessions")
    assert "That session is ended." in ada.get("/account/sessions").text
    assert not is_signed_in(phone)
    assert is_signed_in(ada) and is_signed_in(tablet)
    assert len(listed(ada)) == 2


def test_ending_one_as_json(ada, phone):
    answer = ada.post("/account/sessions/end", json={"session": handle_of(phone)})
    assert (answer.status_code, answer.get_json()["status"]) == (200, "SUCCESS")
    again = ada.post("/account/sessions/end", json={"session": handle_of(ada)[::-1]})
    assert (again.status_code, again.get_json()["message"]) == (404, "Session not found.")


def test_ending_this_one_signs_out_here(ada, phone):
    assert ada.post("/account/sessions/end", data={"session": handle_of(ada)}).status_code == 303
    assert not is_signed_in(ada)
    assert is_signed_in(phone)


@pytest.mark.parametrize("handle", ["", "x", "A" * 16, "*", "../..", None, 5, ["x"], {"x": 1}, True])
def test_a_handle_of_nothing_ends_nothing(ada, phone, mailbox, handle):
    ada.post("/account/email", data={"email": "new@example.org"})
    assert ada.post("/account/sessions/end", json={"session": handle}).status_code == 404
    assert is_signed_in(phone)
    # Nor a change of address that is under way.
    assert ada.post("/verify", data={"OTP": mailbox.last("new@example.org").code}).location == "/account"


def test_nobody_ends_the_session_of_somebody_else(ada):
    eve = other_browser(ada)
    sign_up(eve, "eve@example.org")
    assert eve.post("/account/sessions/end", json={"session": handle_of(ada)}).status_code == 404
    assert is_signed_in(ada)


# --- ending the others -----------------------------------------------------------------------------------------------


def test_all_others_are_ended_and_this_one_goes_on_under_a_new_id(app, ada, phone, mailbox):
    before = session_id(ada)
    ended = ada.post("/account/sessions/end_others")
    assert (ended.status_code, ended.location) == (303, "/account/sessions")
    assert not is_signed_in(phone)
    assert is_signed_in(ada) and session_id(ada) != before
    assert not is_signed_in(as_browser(app, before))
    assert [session["current"] for session in listed(ada)] == [True]
    assert mailbox.last(EMAIL).links[0].partition("?")[0].endswith("/auth/not_me")


def test_ending_the_others_leaves_no_open_question_either(ada, mailbox):
    thief = other_browser(ada)
    thief.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    code = mailbox.last(EMAIL).code
    ada.post("/account/sessions/end_others")
    assert thief.post("/verify", json={"OTP": code}).status_code == 404
    assert not is_signed_in(thief)


# --- what is ended stays ended ---------------------------------------------------------------------------------------


def change_password(ada, _mailbox):
    assert (
        ada.post("/account/password", data={"old_password": PASSWORD, "password": NEW_PASSWORD}).location == "/account"
    )


def choose_forgotten_password(ada, mailbox):
    browser = other_browser(ada)
    browser.post("/auth/reset", data={"email": EMAIL})
    browser.post("/verify", data={"OTP": mailbox.last(EMAIL).code})
    assert browser.post("/auth/reset/password", data={"password": NEW_PASSWORD}).location == "/home"


def change_email(ada, mailbox):
    ada.post("/account/email", data={"email": "ada@new.example.org"})
    assert ada.post("/verify", data={"OTP": mailbox.last("ada@new.example.org").code}).location == "/account"


def end_others(ada, _mailbox):
    assert ada.post("/account/sessions/end_others").status_code == 303


def say_not_me(ada, mailbox):
    link = next(letter for letter in mailbox.all(EMAIL) if "/auth/not_me" in letter.links[0]).link
    assert other_browser(ada).post(link).location == "/verify"


def delete_account(ada, _mailbox):
    assert ada.post("/account/delete", data={"email": EMAIL}).location == "/auth"


def operator(*command):
    def act(ada, _mailbox):
        assert ada.application.test_cli_runner().invoke(args=["users", *command]).exit_code == 0

    return act


WAYS_TO_END = {
    "another password": change_password,
    "a forgotten password": choose_forgotten_password,
    "another address": change_email,
    "ending the others": end_others,
    "this was not me": say_not_me,
    "deletion": delete_account,
    "an operator signing out": operator("sign-out", EMAIL),
    "an operator disabling": operator("disable", EMAIL),
    "an operator deleting": operator("delete", "--yes", EMAIL),
}


@pytest.mark.parametrize("way", WAYS_TO_END)
def test_the_other_sessions_end_at_once_and_for_good_even_if_redis_loses_the_deletion(ada, phone, mailbox, redis, way):
    cookie = session_id(phone)
    with redis_losing_deletions(redis):
        WAYS_TO_END[way](ada, mailbox)
        assert not is_signed_in(phone)
    with later(redis, 61):
        assert not is_signed_in(as_browser(ada.application, cookie))


STALE_DEEDS = {
    "/account": {"name": "Mallory"},
    "/account/password": {"old_password": PASSWORD, "password": NEW_PASSWORD},
    "/account/email": {"email": "mallory@example.org"},
    "/account/delete": {"email": EMAIL},
    "/account/sessions/end_others": {},
    "/auth/fresh": {"password": PASSWORD},
    "/auth/fresh/code": {},
}


@pytest.mark.parametrize("path", STALE_DEEDS)
def test_a_session_that_redis_failed_to_forget_changes_nothing_and_does_not_revive_itself(
    app, ada, mailbox, redis, path
):
    thief = as_browser(app, session_id(ada))
    raise_epoch(app)
    letters = len(mailbox.all())
    answer = thief.post(path, json=STALE_DEEDS[path])
    assert (answer.status_code, answer.get_json()["message"]) == (401, "Sign in required.")
    with later(redis, 61):
        assert not is_signed_in(thief)
    assert len(mailbox.all()) == letters
    assert sign_in(other_browser(ada)).location == "/home"


@pytest.mark.parametrize("path", ["/account/sessions", "/account/export.json"])
def test_a_session_that_redis_failed_to_forget_reads_no_more_than_it_holds(app, ada, path):
    raise_epoch(app)
    assert ada.get(path, headers=JSON).status_code == 401


IN_FLIGHT = {
    "/account": ({"name": "Mallory"}, Action.PROFILE_CHANGED),
    "/auth/fresh": ({"password": PASSWORD}, Action.CONFIRMED),
    "/account/sessions/end": ({"session": "third"}, Action.SESSION_ENDED),
}


@pytest.mark.parametrize("path", IN_FLIGHT)
def test_a_request_in_flight_never_revives_a_revoked_session(app, ada, phone, path):
    """The thief's request has passed the guard when Ada ends his session, and is answered afterwards."""
    form, action = IN_FLIGHT[path]
    if path == "/account/sessions/end":
        third = other_browser(ada)
        sign_in(third)
        form = {"session": handle_of(third)}
    thief, before = phone, session_id(phone)
    handle = handle_of(thief)
    revoked = []

    def end_the_thiefs(_app, **_):
        if not revoked:
            revoked.append(True)
            assert ada.post("/account/sessions/end", json={"session": handle}).status_code == 200

    with audit.signal(action).connected_to(end_the_thiefs):
        thief.post(path, json=form)
    assert revoked
    assert not is_signed_in(thief)
    assert not is_signed_in(as_browser(app, before))
    assert handle_of(ada) and all(session["current"] for session in listed(ada))


def test_a_request_in_flight_does_not_outlive_a_sign_out(app, ada):
    tab, signed_out = as_browser(app, session_id(ada)), []

    def sign_out(_app, **_):
        signed_out.append(ada.post("/logout").status_code)

    with audit.signal(Action.PROFILE_CHANGED).connected_to(sign_out):
        tab.post("/account", data={"name": "Ada"})
    assert signed_out == [303]
    assert not is_signed_in(tab)


def test_whoever_ends_the_session_in_his_hand_is_signed_out(ada):
    sessions = ada.get("/account/sessions", headers=JSON).get_json()["sessions"]
    (own,) = [one["session"] for one in sessions if one["current"]]
    answer = ada.post("/account/sessions/end", json={"session": own})
    assert (answer.status_code, answer.get_json()["next"]) == (200, "/auth")
    assert not is_signed_in(ada) and ada.get_cookie("magicauth") is None


def under_way(deed):
    """What a thief in Ada's session may have under way: path and form."""
    return {
        "another name": ("/account", {"name": "Mallory"}),
        "another password": ("/account/password", {"old_password": PASSWORD, "password": NEW_PASSWORD}),
        "ending her sessions": ("/account/sessions/end_others", {}),
        "deletion": ("/account/delete", {"email": EMAIL}),
    }[deed]


@pytest.mark.parametrize("deed", ["another name", "another password", "ending her sessions", "deletion"])
def test_what_a_thief_has_under_way_does_not_go_over_what_the_owner_has_done(app, ada, phone, mailbox, deed):
    """Her "this was not me" is kept between the moment when his request was let in and the one when it is written."""
    (path, form), thief, owner = under_way(deed), phone, other_browser(ada)
    link = next(letter for letter in mailbox.all(EMAIL) if "/auth/not_me" in letter.links[0]).link
    pressed = []

    def press(*_):
        if not pressed:
            pressed.append(True)
            pressed.extend(at_once(1, lambda _: owner.post(link, json={}).status_code))

    def press_before_deletion(state):
        if state.is_delete:
            press()

    event.listen(db.session, "before_flush", press)
    event.listen(db.session, "do_orm_execute", press_before_deletion)
    try:
        answer = thief.post(path, json=form)
    finally:
        event.remove(db.session, "before_flush", press)
        event.remove(db.session, "do_orm_execute", press_before_deletion)
    assert (pressed, answer.status_code) == ([True, 200], 401)
    assert not is_signed_in(thief)
    assert sign_in(owner).location == "/home"
    assert owner.get("/home", headers=JSON).get_json()["user"]["name"] == "Ada Lovelace"


def test_a_session_that_redis_failed_to_forget_stays_listed_and_can_be_ended(app, ada, monkeypatch):
    thief = other_browser(ada)
    sign_in(thief)
    listed = ada.get("/account/sessions", headers=JSON).get_json()["sessions"]
    session = next(one["session"] for one in listed if not one["current"])
    client = app.extensions["magicauth-redis"]
    for command in ("delete", "zrem"):
        with monkeypatch.context() as broken:

            def fail(*_, **__):
                raise RedisConnectionError

            broken.setattr(client, command, fail)
            assert ada.post("/account/sessions/end", json={"session": session}).status_code == 503
        shown = ada.get("/account/sessions", headers=JSON).get_json()["sessions"]
        assert len(shown) == (2 if command == "delete" else 1)
    assert not is_signed_in(thief)


def test_a_full_redis_ends_no_session_whose_owner_it_could_not_tell(ada, full, mailbox):
    thief = other_browser(ada)
    sign_in(thief)
    listed = ada.get("/account/sessions", headers=JSON).get_json()["sessions"]
    session = {"session": next(one["session"] for one in listed if not one["current"])}
    mailbox.all(EMAIL)
    with full():
        assert ada.post("/account/sessions/end", json=session).status_code == 503
        assert is_signed_in(thief)
    assert ada.post("/account/sessions/end", json=session).status_code == 200
    assert mailbox.last(EMAIL).subject == "You were signed out of magicauth" and not is_signed_in(thief)


@pytest.mark.parametrize(("command", "runs"), [("DEL", True), ("ZREM", False), ("ZREM", True)])
def test_pressing_again_says_that_it_is_ended_and_tells_of_it(app, ada, mailbox, command, runs):
    thief = other_browser(ada)
    sign_in(thief)
    listed = ada.get("/account/sessions", headers=JSON).get_json()["sessions"]
    session = {"session": next(one["session"] for one in listed if not one["current"])}
    key = "magicauth:session:" if command == "DEL" else "magicauth:sessions-of:"
    with failing(app, command, key, runs=runs):
        assert ada.post("/account/sessions/end", json=session).status_code == 503
    again = ada.post("/account/sessions/end", json=session)
    # Where only the answer was lost to what ends it last, it has ended.
    assert again.status_code == (404 if (command, runs) == ("ZREM", True) else 200)
    assert not is_signed_in(thief)


def test_a_session_ends_though_nobody_can_record_it(ada, mailbox, unwritable):
    thief = other_browser(ada)
    sign_in(thief)
    listed = ada.get("/account/sessions", headers=JSON).get_json()["sessions"]
    session = {"session": next(one["session"] for one in listed if not one["current"])}
    unwritable()
    assert ada.post("/account/sessions/end", json=session).status_code == 200
    assert mailbox.last(EMAIL).subject == "You were signed out of magicauth" and not is_signed_in(thief)
