"""Server-side sessions against a real Redis: the holes of the stock class, each closed."""

import builtins
import pickle
import socket
import threading
import time
from contextlib import contextmanager

import msgspec
import pytest
import time_machine
from conftest import wait_for
from flask import session
from flask.testing import FlaskClient
from instruments import at_once, change_user, later, quiet_app, raise_epoch, same_browser, session_id
from pages import EMAIL, JSON, PASSWORD, Letters, is_signed_in, other_browser, sign_in, sign_up
from redis.cluster import RedisCluster

from magicauth import login_required, session_data, sessions
from magicauth.audit import signal
from magicauth.crypto import digest
from magicauth.models import Action, User

DAY = 86_400


class Gate:
    """A guarded page of a site builder that reads or changes the session, and answers when it is told to."""

    def __init__(self, app):
        self.reached, self.go_on = threading.Event(), threading.Event()

        @app.route("/slow/<act>", methods=["GET", "POST"])
        @login_required
        def slow(act):
            if act == "write":
                session["colour"] = "red"
            if act == "forget":
                session.forget("notice")
            if act == "renew":
                session.renew()
            self.reached.set()
            assert self.go_on.wait(10)
            return {"act": act}

    @contextmanager
    def request_under_way(self, client, act):
        """Runs a request of `client` that has loaded its session and not yet saved it; its answer afterwards."""
        answers = []
        thread = threading.Thread(target=lambda: answers.append(client.get(f"/slow/{act}", headers=JSON)))
        thread.start()
        assert self.reached.wait(10)
        try:
            yield answers
        finally:
            self.go_on.set()
            thread.join()


@pytest.fixture
def app(make_new_app):
    """One that a page can be added to."""
    return make_new_app()


@pytest.fixture
def gate(app):
    return Gate(app)


@pytest.fixture
def ada(client, gate):
    """A browser that is signed in."""
    sign_up(client)
    return client


def stored(redis, client):
    """What Redis holds of the browser's session."""
    value = redis.get(f"magicauth:session:{digest(session_id(client))}")
    return session_data.decode(value) if value else None


def user_id(app, email=EMAIL):
    with app.app_context():
        return User.by_email(email).id.hex


def replay(app, value):
    """A browser with that session cookie."""
    client = app.test_client()
    client.set_cookie("magicauth", value)
    return client


# --- keys and values -------------------------------------------------------------------------------------------------


def test_the_cookies_value_is_not_the_key(ada, redis):
    cookie = session_id(ada)
    assert len(cookie) == 43
    (key,) = redis.keys("magicauth:session:*")
    assert key.decode() == f"magicauth:session:{digest(cookie)}"
    assert cookie not in key.decode()


def test_the_key_as_a_cookie_opens_nothing(app, ada, redis):
    (key,) = redis.keys("magicauth:session:*")
    for stolen in (key.decode(), key.decode().rpartition(":")[2]):
        assert not is_signed_in(replay(app, stolen))


def test_what_a_guarded_page_needs_is_in_the_session_and_no_secret(app, ada, redis):
    data = stored(redis, ada)
    assert {"user_id", "name", "email", "epoch", "amr", "auth_time", "created", "seen", "remember"} <= set(data)
    assert data["user_id"] == user_id(app)
    assert data["amr"] == ["email", "password"]
    assert PASSWORD not in str(data) and "argon2" not in str(data)


def test_a_sign_in_under_way_has_no_user(app, ada, redis, mailbox):
    browser = app.test_client()
    browser.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    assert set(stored(redis, browser)) == {"pending"}
    browser.post("/verify", data={"OTP": "x"})
    assert "user_id" not in stored(redis, browser)
    # It dies by itself, too.
    key = f"magicauth:session:{digest(session_id(browser))}"
    assert 1100 <= redis.ttl(key) <= 1200


class Exploit:
    """Whoever unpickles this runs somebody else's code."""

    def __reduce__(self):
        return (exec, ("import builtins; builtins.pwned = True",))


@pytest.mark.parametrize(
    "planted",
    [
        pickle.dumps(Exploit()),
        pickle.dumps({"user_id": "x", "name": "x"}),
        b"\x80\x04.",
        b"",
        b"\xc1",
        b"not msgpack",
        msgspec.msgpack.encode([1, 2]),
        msgspec.msgpack.encode("user_id"),
        msgspec.msgpack.encode(None),
        msgspec.json.encode({"user_id": "x"}),
        msgspec.msgpack.encode({"name": msgspec.msgpack.Ext(1, b"\xff")}),
    ],
)
def test_what_is_not_our_msgpack_is_no_session_least_of_all_a_pickle(app, ada, redis, planted):
    redis.set(f"magicauth:session:{digest(session_id(ada))}", planted)
    answer = ada.get("/home", headers=JSON)
    assert (answer.status_code, answer.get_json()["message"]) == (401, "Sign in required.")
    assert ada.get("/auth").status_code == 200
    assert not hasattr(builtins, "pwned")


def test_a_client_that_is_no_plain_redis_is_kept(app):
    # The stock class puts one of localhost:6379 in the place of a Cluster's client.
    cluster = RedisCluster.__new__(RedisCluster)
    assert sessions.SessionInterface(app, cluster).client is cluster


# --- when it is written ----------------------------------------------------------------------------------------------


def test_reading_does_not_write(ada, redis):
    key = f"magicauth:session:{digest(session_id(ada))}"
    before, ttl = redis.get(key), redis.pttl(key)
    for _ in range(5):
        answer = ada.get("/home")
        assert answer.status_code == 200
        assert not [line for line in answer.headers.getlist("Set-Cookie") if line.startswith("magicauth=")]
    assert redis.get(key) == before
    assert redis.pttl(key) <= ttl


def test_writing_keeps_the_id_and_what_another_request_reads(ada, gate, redis):
    before = session_id(ada)
    gate.go_on.set()
    assert ada.get("/slow/write").status_code == 200
    assert session_id(ada) == before
    assert stored(redis, ada)["colour"] == "red"
    assert is_signed_in(ada)


def test_renewing_gives_a_new_id_keeps_what_is_in_it_and_ends_the_old_one(app, ada, gate, redis):
    before = session_id(ada)
    gate.go_on.set()
    assert ada.get("/slow/renew").status_code == 200
    assert session_id(ada) != before
    assert is_signed_in(ada)
    assert not is_signed_in(replay(app, before))
    assert len(redis.keys("magicauth:session:*")) == 1
    assert redis.zrange(f"magicauth:sessions-of:{user_id(app)}", 0, -1) == [digest(session_id(ada)).encode()]


def test_logout_undone_a_request_in_flight_does_not_bring_a_revoked_session_back(app, ada, gate, redis):
    cookie, tab = session_id(ada), same_browser(ada)
    with gate.request_under_way(tab, "write") as answers:
        assert ada.post("/logout").location == "/auth"
        assert redis.keys("magicauth:session:*") == []
    assert answers[0].status_code == 200
    assert redis.keys("magicauth:session:*") == []
    assert not is_signed_in(replay(app, cookie))
    assert not is_signed_in(tab)


def test_logout_undone_nor_under_a_new_id(app, ada, gate, redis):
    tab = same_browser(ada)
    with gate.request_under_way(tab, "renew"):
        ada.post("/logout")
    assert redis.keys("magicauth:session:*") == []
    assert not is_signed_in(tab)


def test_logout_undone_nor_where_the_session_was_renewed_meanwhile(app, ada):
    tab = same_browser(ada)

    def renew(_, user):
        assert tab.post("/auth/fresh", data={"password": PASSWORD}).status_code == 303
        assert is_signed_in(tab)

    with signal(Action.SIGNED_OUT).connected_to(renew):
        assert ada.post("/logout").location == "/auth"
    assert not is_signed_in(tab)


def test_logout_undone_nor_where_the_new_ids_are_still_on_their_way(ada):
    renewed = same_browser(ada)
    for _ in range(2):
        assert renewed.post("/auth/fresh", data={"password": PASSWORD}).status_code == 303
    FlaskClient.open(ada, "/logout", method="OPTIONS")
    assert is_signed_in(renewed)
    assert ada.post("/logout").location == "/auth"
    assert not is_signed_in(renewed)


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/account/sessions/end_others", {}),
        ("/account/password", {"old_password": PASSWORD, "password": "seven other horses graze"}),
        ("/account/delete", {"email": EMAIL}),
    ],
    ids=["end_others", "password", "delete"],
)
def test_a_sign_in_that_finishes_while_all_sessions_end_is_none(app, ada, redis, path, form):
    late = other_browser(ada)

    def end_sessions(_, user):
        assert ada.post(path, data=form).status_code == 303

    late.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    code = Letters(app).last(EMAIL).code
    with signal(Action.SIGNED_IN).connected_to(end_sessions):
        answer = late.post("/verify", json={"OTP": code})
    assert (answer.status_code, answer.get_json()["message"]) == (401, "Sign in required.")
    assert not answer.headers.getlist("Set-Cookie")
    assert not is_signed_in(late)
    kept = 0 if path == "/account/delete" else 1
    assert len(redis.keys("magicauth:session:*")) == kept
    assert sum(redis.zcard(key) for key in redis.keys("magicauth:sessions-of:*")) == kept


def test_logout_undone_nor_by_many_requests_at_once(app, ada, gate, redis):
    gate.go_on.set()
    tabs = [same_browser(ada) for _ in range(40)]

    def act(number):
        if number == 20:
            return tabs[number].post("/logout").status_code
        return tabs[number].get("/slow/renew" if number % 4 == 0 else "/slow/write").status_code

    told = at_once(40, act)
    assert set(told) <= {200, 303}
    # The sign-out may have lost the race against a request that gave the session a new id: then it was nobody's to end.
    survivors = [tab for tab in tabs if is_signed_in(tab)]
    assert len(redis.keys("magicauth:session:*")) == len({session_id(tab) for tab in survivors}) <= 1


def test_a_button_pressed_many_times_at_once_loses_no_sign_in_under_way(app, ada, monkeypatch):
    # A press that comes after the first has given the session a new id asks for a letter of its own.
    monkeypatch.setitem(app.config, "MAGICAUTH_LIMIT_MAILS_PER_ADDRESS", [])
    browser = other_browser(ada)
    browser.post("/auth", data={"email": EMAIL})
    presses = [same_browser(browser) for _ in range(6)]
    answers = at_once(
        6, lambda number: presses[number].post("/auth", data={"email": EMAIL, "password": PASSWORD}).status_code
    )
    assert answers == [303] * 6
    # Whichever answer the browser kept last, its question is open.
    assert [press.get("/verify").status_code for press in presses] == [200] * 6


def test_a_button_pressed_many_times_at_once_keeps_the_session_that_it_renews(ada, redis):
    presses = [same_browser(ada) for _ in range(6)]
    # The last of them is another form of the same page.
    forms = [("/auth/fresh", {"password": PASSWORD})] * 5 + [("/account", {"name": "Ada"})]
    answers = at_once(6, lambda number: presses[number].post(forms[number][0], data=forms[number][1]))
    assert [answer.status_code for answer in answers] == [303] * 6
    # One answer brings the new cookie, and none takes it away: they come to one browser, in any order.
    told = [line for answer in answers for line in answer.headers.getlist("Set-Cookie") if "magicauth=" in line]
    assert len(told) == len(redis.keys("magicauth:session:*")) == 1
    assert [is_signed_in(press) for press in presses].count(True) == 1


def test_an_id_that_a_browser_made_up_is_not_taken_over(app, ada):
    made_up = replay(app, "A" * 43)
    made_up.post("/auth", data={"email": EMAIL})
    assert session_id(made_up) not in ("", "A" * 43)


# --- how long it lives -----------------------------------------------------------------------------------------------


def _at(seconds):
    """The app's clock, that far from now, and not that of Redis."""
    return time_machine.travel(time.time() + seconds)


def test_a_page_that_only_slides_it_leaves_what_another_request_put_into_it(ada, gate, redis, mailbox):
    with later(redis, 61):
        with gate.request_under_way(same_browser(ada), "read"):
            assert ada.post("/account/email", data={"email": "new@example.org"}).location == "/verify"
        assert ada.post("/verify", data={"OTP": mailbox.last("new@example.org").code}).location == "/account"


@pytest.mark.parametrize("act", ["write", "forget"])
def test_of_two_requests_that_write_it_at_once_neither_loses_what_it_wrote(ada, gate, redis, mailbox, act):
    ada.post("/account", data={"name": "Ada King", "phone": ""})
    with gate.request_under_way(same_browser(ada), act):
        assert ada.post("/account/email", data={"email": "new@example.org"}).location == "/verify"
    assert stored(redis, ada).get("colour") == ("red" if act == "write" else None)
    assert ("notice" in stored(redis, ada)) == (act == "write")
    assert ada.post("/verify", data={"OTP": mailbox.last("new@example.org").code}).location == "/account"


def test_nor_does_one_that_gives_it_a_new_id(ada, gate, mailbox):
    tab = same_browser(ada)
    with gate.request_under_way(tab, "renew"):
        assert ada.post("/account/email", data={"email": "new@example.org"}).location == "/verify"
    assert tab.post("/verify", data={"OTP": mailbox.last("new@example.org").code}).location == "/account"


def test_idle_time_ends_a_session(ada, redis):
    with later(redis, 1700):
        assert ada.get("/auth").location == "/home"
        with later(redis, 1700):
            assert is_signed_in(ada)
            with later(redis, 1801):
                assert not is_signed_in(ada)


def test_use_slides_the_idle_time_once_a_minute(ada, redis):
    key = f"magicauth:session:{digest(session_id(ada))}"
    with later(redis, 30):
        assert is_signed_in(ada)
        assert redis.ttl(key) <= 1800 - 30
        with later(redis, 31):
            assert is_signed_in(ada)
            assert redis.ttl(key) > 1800 - 30


def test_a_session_that_is_used_lives_to_its_absolute_end_and_no_longer(ada, redis):
    for minutes in range(25, 720, 25):
        with _at(minutes * 60):
            assert is_signed_in(ada), minutes
    with _at(43_100):
        assert is_signed_in(ada)
        assert redis.ttl(f"magicauth:session:{digest(session_id(ada))}") <= 100
    with _at(43_201):
        assert not is_signed_in(ada)


def test_keep_me_signed_in_has_times_of_its_own(ada, redis):
    browser = other_browser(ada)
    sign_in(browser, remember="on")
    key = f"magicauth:session:{digest(session_id(browser))}"
    # Whole seconds, rounded up.
    assert 14 * DAY - 100 <= redis.ttl(key) <= 14 * DAY + 1
    for day in (13, 26):
        with _at(day * DAY):
            assert is_signed_in(browser)
    with _at(30 * DAY - 60):
        assert is_signed_in(browser)
    with _at(30 * DAY + 1):
        assert not is_signed_in(browser)


def test_an_absolute_end_comes_by_the_servers_clock(make_app):
    app = make_app(MAGICAUTH_SESSION_IDLE="2", MAGICAUTH_SESSION_ABSOLUTE="3")
    client = app.test_client()
    sign_up(client)
    # Each look is a use, which slides the idle time; the absolute end comes all the same.
    wait_for(lambda: not is_signed_in(client))


def test_a_short_idle_time_slides_after_a_quarter_of_it(make_app, redis):
    app = make_app(MAGICAUTH_SESSION_IDLE="200")
    client = app.test_client()
    sign_up(client)
    seen = stored(redis, client)["seen"]
    with _at(20):
        assert is_signed_in(client)
        assert stored(redis, client)["seen"] == seen
    with _at(51):
        assert is_signed_in(client)
        assert stored(redis, client)["seen"] > seen


def test_no_session_ends_before_its_time(make_app, redis):
    client = make_app(MAGICAUTH_SESSION_IDLE="2", MAGICAUTH_SESSION_ABSOLUTE="3", MAGICAUTH_FRESH_FOR="1").test_client()
    begin = int(time.time()) + 1.9
    with time_machine.travel(begin, tick=False):
        sign_up(client)
    with time_machine.travel(begin + 0.9, tick=False):
        assert client.get("/account/password").status_code == 200
    with time_machine.travel(begin + 1.9, tick=False):
        assert is_signed_in(client)
        assert client.get("/account/password").location == "/auth/fresh"
    with time_machine.travel(begin + 2.9, tick=False):
        assert is_signed_in(client)
    with time_machine.travel(begin + 3.1, tick=False):
        assert not is_signed_in(client)


def test_a_lifetime_longer_than_any_cookies_is_one(make_app):
    long = "999999999999"
    client = make_app(MAGICAUTH_REMEMBER_IDLE=long, MAGICAUTH_REMEMBER_ABSOLUTE=long).test_client()
    sign_up(client)
    browser = other_browser(client)
    assert sign_in(browser, remember="on").location == "/home"
    assert is_signed_in(browser)
    assert browser.get_cookie("magicauth").max_age == 400 * 86_400


def test_one_second_is_a_lifetime(make_app):
    app = make_app(MAGICAUTH_SESSION_IDLE="1", MAGICAUTH_SESSION_ABSOLUTE="1")
    client = app.test_client()
    assert sign_up(client).status_code == 303
    wait_for(lambda: not is_signed_in(client))


# --- the database has the last word ----------------------------------------------------------------------------------


def test_a_raised_epoch_ends_a_session_within_a_minute_even_if_redis_forgot_to(app, ada, redis):
    raise_epoch(app)
    assert is_signed_in(ada)
    with later(redis, 61):
        assert not is_signed_in(ada)
        assert session_id(ada) == ""
        assert redis.keys("magicauth:session:*") == []


def test_a_disabled_account_is_out_within_a_minute(app, ada, redis):
    change_user(app, disabled=True)
    with later(redis, 61):
        assert not is_signed_in(ada)


def test_a_changed_name_shows_within_a_minute(app, ada, redis):
    change_user(app, name="Augusta")
    with later(redis, 61):
        assert ada.get("/home", headers=JSON).get_json()["user"]["name"] == "Augusta"


# --- each user's sessions --------------------------------------------------------------------------------------------


def test_the_index_knows_every_session_and_forgets_what_ended(app, ada, redis):
    others = [other_browser(ada) for _ in range(3)]
    for browser in others:
        sign_in(browser)
    index = f"magicauth:sessions-of:{user_id(app)}"
    assert {member.decode() for member in redis.zrange(index, 0, -1)} == {
        digest(session_id(browser)) for browser in [ada, *others]
    }
    others[0].post("/logout")
    assert digest(session_id(ada)).encode() in redis.zrange(index, 0, -1)
    assert redis.zcard(index) == 3
    ada.post("/account/sessions/end_others")
    assert redis.zrange(index, 0, -1) == [digest(session_id(ada)).encode()]


def test_an_account_that_another_takes_the_place_of_in_a_browser_has_no_session_there_any_more(app, ada, redis):
    sign_up(ada, "eve@example.org")
    assert redis.zcard(f"magicauth:sessions-of:{user_id(app)}") == 0
    assert redis.zcard(f"magicauth:sessions-of:{user_id(app, 'eve@example.org')}") == 1


def test_nor_one_that_another_tab_renews_meanwhile(ada):
    tab = same_browser(ada)

    def renew(_, user):
        assert tab.post("/auth/fresh", data={"password": PASSWORD}).status_code == 303
        assert is_signed_in(tab)

    with signal(Action.SIGNED_UP).connected_to(renew):
        sign_up(ada, "eve@example.org")
    assert not is_signed_in(tab) and is_signed_in(ada)


def test_the_index_trims_what_is_over_and_goes_by_itself(app, ada, redis):
    index = f"magicauth:sessions-of:{user_id(app)}"
    assert redis.zcard(index) == 1
    assert 0 < redis.ttl(index) <= 31 * DAY
    with later(redis, 43_300):
        browser = other_browser(ada)
        sign_in(browser)
        assert redis.zrange(index, 0, -1) == [digest(session_id(browser)).encode()]


def test_the_index_is_never_trusted_for_validity(app, ada, redis):
    redis.zadd(f"magicauth:sessions-of:{user_id(app)}", {digest("A" * 43): int(time.time()) + 1000})
    assert not is_signed_in(replay(app, "A" * 43))
    with app.app_context():
        assert [listed.current for listed in sessions.listed(user_id(app), 1)] == [False]
    redis.delete(f"magicauth:sessions-of:{user_id(app)}")
    assert is_signed_in(ada)


def test_revoking_one_session_ends_that_one(app, ada):
    other = other_browser(ada)
    sign_in(other)
    with app.app_context():
        store_id = sessions.find(user_id(app), digest(session_id(other))[:16])
        assert sessions.revoke(user_id(app), store_id)
        assert not sessions.revoke(user_id(app), store_id)
    assert not is_signed_in(other) and is_signed_in(ada)


def test_of_many_who_end_it_at_once_one_has(app, ada):
    for _ in range(10):
        other = other_browser(ada)
        sign_in(other)
        store_id, whose = digest(session_id(other)), user_id(app)

        def end(_, store_id=store_id, whose=whose):
            with app.app_context():
                return sessions.revoke(whose, store_id)

        assert at_once(4, end).count(True) == 1


def test_a_handle_of_somebody_elses_session_ends_nothing(app, ada):
    eve = other_browser(ada)
    sign_up(eve, "eve@example.org", name="Eve")
    with app.app_context():
        assert sessions.find(user_id(app), digest(session_id(eve))[:16]) is None
    assert is_signed_in(eve)


def test_revoking_all_ends_all_of_one_user(app, ada):
    others = [other_browser(ada) for _ in range(3)]
    for browser in others:
        sign_in(browser)
    eve = other_browser(ada)
    sign_up(eve, "eve@example.org", name="Eve")
    with app.app_context():
        sessions.revoke_all(user_id(app), 1)
    assert not any(is_signed_in(browser) for browser in [ada, *others])
    assert is_signed_in(eve)


# --- Redis away ------------------------------------------------------------------------------------------------------


@contextmanager
def _closed_port():
    """A port that refuses: nobody else can be given it while it is bound."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextmanager
def _silent_port():
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server.getsockname()[1]


PATHS = [("GET", "/home"), ("POST", "/auth"), ("POST", "/logout")]


def timed(act, within):
    """What `act` returns and the seconds it takes: the best of a few tries, since the machine has other work, too."""
    tries = []
    for _ in range(3):
        started = time.monotonic()
        answer = act()
        tries.append(time.monotonic() - started)
        if tries[-1] < within:
            break
    return answer, min(tries)


@pytest.mark.parametrize(("port", "within"), [(_closed_port, 0.5), (_silent_port, 1.5)], ids=["refused", "hung"])
@pytest.mark.parametrize("headers", [{}, JSON], ids=["page", "json"])
def test_while_redis_is_away_whoever_needs_it_is_told_so_in_time(ada, redis_url, tmp_path, port, within, headers):
    with port() as number, quiet_app(f"redis://127.0.0.1:{number}/0", tmp_path) as away:
        client = replay(away, session_id(ada))
        client.get("/home", headers=headers)
        for method, path in PATHS:
            form = {"email": EMAIL} if method == "POST" else None
            answer, took = timed(
                lambda method=method, path=path, form=form: client.open(
                    path, method=method, headers=headers, data=form
                ),
                within,
            )
            assert answer.status_code == 503, path
            assert took < within, (path, took)
            assert int(answer.headers["Retry-After"]) > 0
            assert answer.is_json is bool(headers)
            assert "Traceback" not in answer.text and "redis" not in answer.text.lower()
            # The browser keeps its session for when Redis is back.
            assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("port", [_closed_port, _silent_port], ids=["refused", "hung"])
def test_while_redis_is_away_what_does_not_need_it_still_answers(redis, tmp_path, port):
    with port() as number, quiet_app(f"redis://127.0.0.1:{number}/0", tmp_path) as away:
        client = away.test_client()
        for path in ("/healthz", "/auth", "/users/magic_link", "/static/app.css", "/auth/reset"):
            answer, took = timed(lambda path=path: client.get(path, buffered=True), 0.5)
            assert answer.status_code == 200, path
            assert took < 0.5, (path, took)
        assert client.get("/home").location == "/auth?next=/home"
        assert client.get("/").location == "/auth"
        ready = client.get("/readyz")
        assert (ready.status_code, ready.get_json()["redis"]) == (503, "away")
        assert int(ready.headers["Retry-After"]) > 0


def test_a_redis_that_comes_back_finds_every_session(ada, redis_url, tmp_path):
    with _closed_port() as number, quiet_app(f"redis://127.0.0.1:{number}/0", tmp_path) as away:
        client = replay(away, session_id(ada))
        assert client.get("/home", headers=JSON).status_code == 503
        assert session_id(client) == session_id(ada)
    assert is_signed_in(ada)


def test_a_full_redis_is_an_answer_too_and_no_error_of_ours(app, ada, redis):
    redis.config_set("maxmemory", "1")
    try:
        # Reading needs no memory; writing does.
        assert is_signed_in(ada)
        answer = other_browser(ada).post("/auth", json={"email": EMAIL})
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
    finally:
        redis.config_set("maxmemory", "0")
    assert other_browser(ada).post("/auth", json={"email": EMAIL}).status_code == 200


def test_scripts_that_redis_forgot_are_sent_again(app, ada, redis):
    browser = other_browser(ada)
    redis.script_flush()
    browser.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    redis.script_flush()
    assert browser.post("/verify", data={"OTP": Letters(app).last().code}).location == "/home"


# --- production ------------------------------------------------------------------------------------------------------


def test_on_https_no_sibling_domain_can_plant_a_session(redis, redis_url, tmp_path):
    with quiet_app(redis_url, tmp_path, PUBLIC_URL="https://id.example.org") as app:
        answer = app.test_client().post("/auth", data={"email": EMAIL}, base_url="https://id.example.org")
        (cookie,) = answer.headers.getlist("Set-Cookie")
        assert cookie.startswith("__Host-magicauth=")
        parts = {part.strip() for part in cookie.split(";")[1:]}
        assert parts == {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"}
