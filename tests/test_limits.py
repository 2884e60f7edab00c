"""Budgets at the front door: they degrade and do not lock."""

from contextlib import ExitStack

import pytest
from instruments import at_once, change_user, delivering, later, quiet_app, redis_commands, same_browser
from pages import EMAIL, PASSWORD, Letters, is_signed_in, other_browser, sign_in, sign_up
from redis.exceptions import ConnectionError as RedisConnectionError

NO_LIMIT = "100000 per second"
# Budgets of one kind are looked at by themselves.
ACCOUNT_ONLY = {
    f"MAGICAUTH_LIMIT_{kind}_{per}": NO_LIMIT
    for kind in ("MAILS", "CODES", "PASSWORDS")
    for per in ("PER_IP", "GLOBAL")
}


@pytest.fixture
def app(make_app):
    """A site that grants three wrong passwords instead of ten: each takes its time."""
    return make_app(MAGICAUTH_LIMIT_PASSWORDS_PER_ACCOUNT="3 per 5 minutes")


@pytest.fixture
def owner(client):
    """The browser in which Ada signed up; she is signed out."""
    return signed_out(client)


def signed_out(client):
    """The browser in which Ada signed up, after she signed out."""
    sign_up(client)
    client.post("/logout")
    return client


def try_password(client, password="not the one", email=EMAIL):
    """Status of a sign-in with that password."""
    return client.post("/auth", json={"email": email, "password": password}).status_code


def guess_codes(client, count, email=EMAIL):
    """Opens challenge after challenge and guesses at each; the statuses of the guesses."""
    statuses = []
    while len(statuses) < count:
        answer = client.post("/verify", json={"OTP": "x"})
        if answer.status_code == 404:
            assert client.post("/auth", json={"email": email}).status_code == 200
            continue
        statuses.append(answer.status_code)
    return statuses


def test_a_press_that_is_refused_leaves_the_next_nothing_to_wait_for(make_app, redis):
    client = make_app(MAGICAUTH_LIMIT_MAILS_PER_ADDRESS="1 per hour").test_client()
    for email in ("eve@example.org", EMAIL):
        client.post("/auth", data={"email": email})
    client.post("/auth", data={"email": "grace@example.org"})
    for _ in range(2):
        with redis_commands(redis) as commands:
            assert client.post("/auth", json={"email": EMAIL.replace("@", "+x@")}).status_code == 429
        # It looks again and again where another press seems to be under way.
        assert commands.count("GET") == 1


# --- passwords -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("email", [EMAIL, "nobody@example.org"])
def test_of_a_hundred_passwords_at_once_ten_are_looked_at(make_app, email):
    owner = signed_out(make_app().test_client())
    guessers = [other_browser(owner) for _ in range(100)]
    told = at_once(100, lambda n: try_password(guessers[n], email=email))
    assert (told.count(401), told.count(429)) == (10, 90)


def test_the_right_password_among_a_hundred_is_not_found_past_the_budget(owner):
    for _ in range(3):
        assert try_password(other_browser(owner)) == 401
    assert try_password(other_browser(owner), PASSWORD) == 429


def test_retry_after_is_the_truth(owner, redis):
    browser = other_browser(owner)
    for _ in range(3):
        try_password(browser)
    answer = browser.post("/auth", json={"email": EMAIL, "password": PASSWORD})
    assert answer.status_code == 429
    wait = int(answer.headers["Retry-After"])
    assert 200 <= wait <= 300
    page = browser.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    assert page.status_code == 429 and wait - 60 <= int(page.headers["Retry-After"]) <= wait
    with later(redis, wait - 100):
        assert try_password(browser, PASSWORD) == 429
        with later(redis, 100):
            assert try_password(browser, PASSWORD) == 200


def test_a_right_password_costs_nothing(make_app, redis):
    # An office behind one address: more people than the budget of an account or of a client has places.
    budgets = {f"MAGICAUTH_LIMIT_PASSWORDS_PER_{who}": "4 per minute" for who in ("ACCOUNT", "IP")}
    app = make_app(**budgets)
    sign_up(app.test_client())
    for _ in range(6):
        assert sign_in(app.test_client()).location == "/home"
    for key in redis.keys("magicauth:*limits*passwords*"):
        assert redis.get(key) == b"0"


def test_passwords_that_are_spent_leave_the_way_by_mail(owner, mailbox):
    browser = other_browser(owner)
    assert [try_password(browser) for _ in range(4)] == [401] * 3 + [429]
    assert "Choose a new password instead" in browser.post("/auth", data={"email": EMAIL, "password": "x"}).text
    assert browser.post("/auth", json={"email": EMAIL}).status_code == 200
    code = mailbox.last().code
    assert browser.post("/verify", json={"OTP": code}).get_json()["next"] == "/auth/password"
    forgotten = other_browser(owner)
    assert forgotten.post("/auth/reset", json={"email": EMAIL}).status_code == 200
    assert forgotten.post("/verify", json={"OTP": mailbox.last().code}).get_json()["next"] == "/auth/reset/password"
    done = forgotten.post("/auth/reset/password", json={"password": "a new and longer passphrase"})
    assert done.get_json()["next"] == "/home"
    assert is_signed_in(forgotten)


def test_guessing_at_an_account_without_a_password_does_not_keep_its_owner_out(make_app):
    app = make_app(MAGICAUTH_PASSWORDS="optional", MAGICAUTH_LIMIT_PASSWORDS_PER_ACCOUNT="3 per minute")
    sign_up(app.test_client(), password="")
    guesser, owner = app.test_client(), app.test_client()
    assert [try_password(guesser) for _ in range(4)] == [401] * 3 + [429]
    owner.post("/auth", data={"email": EMAIL})
    assert owner.post("/verify", data={"OTP": Letters(app).last().code}).location == "/home"


def test_a_browser_that_signed_in_before_has_a_budget_of_its_own(owner):
    stranger = other_browser(owner)
    assert [try_password(stranger) for _ in range(4)][-1] == 429
    assert try_password(owner, PASSWORD) == 200
    # And one of the same size.
    assert [try_password(owner) for _ in range(4)] == [401] * 3 + [429]


def test_a_device_cookie_counts_for_the_account_that_signed_in_there_and_no_other(owner):
    sign_up(other_browser(owner), "eve@example.org", name="Eve")
    stranger = other_browser(owner)
    assert [try_password(stranger, email="eve@example.org") for _ in range(4)][-1] == 429
    assert try_password(owner, PASSWORD, "eve@example.org") == 429


def test_a_device_cookie_counts_no_longer_when_all_other_sessions_were_ended(owner):
    thief = other_browser(owner)
    sign_in(thief)
    sign_in(owner)
    assert owner.post("/account/sessions/end_others").location == "/account/sessions"
    assert [try_password(other_browser(owner)) for _ in range(4)][-1] == 429
    assert (try_password(thief), try_password(owner)) == (429, 401)


def test_those_of_before_take_no_other_accounts_place_in_it(owner):
    sign_in(owner)
    for _ in range(10):
        owner.post("/account/sessions/end_others")
    # The id, and one for the account.
    assert owner.get_cookie("magicauth-device").value.count(".") == 1


@pytest.mark.parametrize(
    "spoil", [lambda c: c[:-1], lambda c: c + "A", lambda c: "A" * 22 + c[22:], lambda c: c.swapcase()]
)
def test_a_device_cookie_that_was_made_up_is_none(owner, spoil):
    stranger = other_browser(owner)
    assert [try_password(stranger) for _ in range(4)][-1] == 429
    liar = other_browser(owner)
    liar.set_cookie("magicauth-device", spoil(owner.get_cookie("magicauth-device").value))
    assert try_password(liar, PASSWORD) == 429


def test_another_spelling_of_the_address_is_no_other_budget(make_app):
    app = make_app(**ACCOUNT_ONLY, MAGICAUTH_LIMIT_PASSWORDS_PER_ACCOUNT="5 per minute")
    sign_up(app.test_client(), "ada.lovelace@gmail.com")
    spellings = [
        "ada.lovelace@gmail.com",
        "ADA.LOVELACE@GMAIL.COM",
        "adalovelace@gmail.com",
        "a.d.a.lovelace+x@gmail.com",
        "ada.lovelace+y@googlemail.com",
    ]
    told = [try_password(app.test_client(), email=spellings[n % 5]) for n in range(6)]
    assert told == [401] * 5 + [429]


@pytest.mark.parametrize("send", [{"json": {}}, {"data": {}}, {"data": {}, "content_type": "multipart/form-data"}])
def test_another_format_is_no_other_budget(owner, send):
    for _ in range(3):
        try_password(other_browser(owner))
    ((way, _),) = [item for item in send.items() if item[0] != "content_type"]
    answer = other_browser(owner).post("/auth", **(send | {way: {"email": EMAIL, "password": PASSWORD}}))
    assert answer.status_code == 429


def test_many_addresses_from_one_client_share_its_budget(app):
    clients = [app.test_client() for _ in range(50)]
    told = at_once(50, lambda n: try_password(clients[n], email=f"nobody{n}@example.org"))
    assert (told.count(401), told.count(429)) == (20, 30)


def test_what_everybody_may_do_is_bounded_too(make_app):
    app = make_app(MAGICAUTH_LIMIT_PASSWORDS_GLOBAL="3 per minute")
    told = [
        app.test_client()
        .post(
            "/auth", json={"email": f"x{n}@example.org", "password": "x"}, environ_base={"REMOTE_ADDR": f"10.0.0.{n}"}
        )
        .status_code
        for n in range(4)
    ]
    assert told == [401] * 3 + [429]


def test_a_client_is_an_ipv4_address_or_the_64_of_an_ipv6_one(make_app):
    app = make_app(MAGICAUTH_LIMIT_PASSWORDS_PER_IP="2 per minute")

    def status(number, ip):
        form = {"email": f"x{number}@example.org", "password": "x"}
        return app.test_client().post("/auth", json=form, environ_base={"REMOTE_ADDR": ip}).status_code

    assert [status(n, f"2001:db8:0:1::{n}") for n in range(3)] == [401, 401, 429]
    assert status(3, "2001:db8:0:2::1") == 401
    assert [status(4, "192.0.2.1"), status(5, "::ffff:192.0.2.1"), status(6, "192.0.2.1")] == [401, 401, 429]
    assert status(7, "192.0.2.2") == 401


def test_who_writes_his_own_x_forwarded_for_stays_one_client(make_app):
    app = make_app(MAGICAUTH_LIMIT_PASSWORDS_PER_IP="2 per minute")
    told = [
        app.test_client()
        .post(
            "/auth",
            json={"email": f"x{n}@example.org", "password": "x"},
            headers={"X-Forwarded-For": f"10.0.0.{n}", "X-Real-IP": f"10.0.0.{n}", "Forwarded": f"for=10.0.0.{n}"},
        )
        .status_code
        for n in range(3)
    ]
    assert told == [401, 401, 429]


def test_behind_a_trusted_proxy_the_rightmost_hop_counts(make_app):
    app = make_app(MAGICAUTH_LIMIT_PASSWORDS_PER_IP="2 per minute", MAGICAUTH_TRUSTED_PROXIES="1")

    def status(number, forwarded):
        form = {"email": f"x{number}@example.org", "password": "x"}
        return app.test_client().post("/auth", json=form, headers={"X-Forwarded-For": forwarded}).status_code

    assert [status(n, f"203.0.113.{n}, 198.51.100.7") for n in range(3)] == [401, 401, 429]
    assert status(3, "198.51.100.8") == 401


def test_a_proxy_that_writes_the_port_too_names_the_same_client(make_app):
    app = make_app(MAGICAUTH_LIMIT_PASSWORDS_PER_IP="2 per minute", MAGICAUTH_TRUSTED_PROXIES="1")

    def statuses(*hops):
        form = {"email": "x@example.org", "password": "x"}
        browser = app.test_client()
        return [browser.post("/auth", json=form, headers={"X-Forwarded-For": hop}).status_code for hop in hops]

    assert statuses("192.0.2.1:5555", "192.0.2.1:5556", "192.0.2.1") == [401, 401, 429]
    assert statuses("[2001:db8::1]:443", "[2001:db8::2]:444", "2001:db8::3") == [401, 401, 429]
    assert statuses("192.0.2.2:5555") == [401]


# --- a finished sign-in ----------------------------------------------------------------------------------------------


def test_a_finished_sign_in_clears_the_accounts_own_failures(owner):
    stranger, new = other_browser(owner), other_browser(owner)
    assert {try_password(stranger) for _ in range(2)} == {401}
    assert sign_in(new).location == "/home"
    assert [try_password(other_browser(owner)) for _ in range(4)] == [401] * 3 + [429]


@pytest.mark.parametrize("other", ["ada+shop@example.org", "ada@example.org"])
def test_a_finished_sign_in_clears_nothing_of_another_spelling(make_app, other):
    # At some providers they are two people's.
    app = make_app(**ACCOUNT_ONLY, MAGICAUTH_LIMIT_PASSWORDS_PER_ACCOUNT="4 per minute")
    victim = {"ada+shop@example.org": "ada@example.org"}.get(other, "ada+shop@example.org")
    for email in (victim, other):
        sign_up(app.test_client(), email)
    assert [try_password(app.test_client(), email=victim) for _ in range(2)] == [401] * 2
    assert sign_in(app.test_client(), other).location == "/home"
    assert [try_password(app.test_client(), email=victim) for _ in range(3)] == [401, 401, 429]


def test_nothing_less_clears_them(owner, mailbox, redis):
    browser = other_browser(owner)
    assert {try_password(browser) for _ in range(2)} == {401}
    # A letter, one sent again, the right code alone, the right password alone, another browser.
    browser.post("/auth", json={"email": EMAIL})
    with later(redis, 61):
        browser.post("/verify/resend", json={})
        browser.post("/verify", json={"OTP": mailbox.last().code})
        assert try_password(other_browser(owner), PASSWORD) == 200
        assert try_password(other_browser(owner)) == 401
        assert try_password(other_browser(owner)) == 429


def test_a_sign_in_in_a_known_browser_leaves_what_strangers_have_spent(owner):
    stranger = other_browser(owner)
    assert [try_password(stranger) for _ in range(4)][-1] == 429
    assert sign_in(owner).location == "/home"
    assert try_password(stranger) == 429


# --- codes -----------------------------------------------------------------------------------------------------------


def test_codes_that_are_spent_over_all_challenges_leave_the_link(make_app):
    app = make_app(**ACCOUNT_ONLY, MAGICAUTH_LIMIT_MAILS_PER_ADDRESS=NO_LIMIT)
    sign_up(app.test_client())
    guesser, owner, mailbox = app.test_client(), app.test_client(), Letters(app)
    assert guess_codes(guesser, 11) == [401] * 10 + [429]
    owner.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    letter = mailbox.last()
    answer = owner.post("/verify", json={"OTP": letter.code})
    assert answer.status_code == 429
    assert 500 <= int(answer.headers["Retry-After"]) <= 600
    page = owner.post("/verify", data={"OTP": letter.code})
    assert page.status_code == 429 and "Retry-After" in page.headers
    # No guess was spent, and nothing is locked: the link of the same letter works.
    assert owner.post("/auth/link", data={"token": letter.token}).location == "/home"
    assert is_signed_in(owner)


def test_codes_that_a_stranger_spent_do_not_bother_a_known_browser(owner, mailbox):
    guesser = other_browser(owner)
    assert guess_codes(guesser, 11) == [401] * 10 + [429]
    owner.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    assert owner.post("/verify", data={"OTP": mailbox.last().code}).location == "/home"


def test_the_wider_budgets_of_codes_count_as_well(make_app, redis):
    settings = ACCOUNT_ONLY | {"MAGICAUTH_LIMIT_MAILS_PER_ADDRESS": NO_LIMIT}
    app = make_app(**settings)
    guesser = app.test_client()
    assert guess_codes(guesser, 10, "nobody@example.org") == [401] * 10
    with later(redis, 601):
        assert guess_codes(app.test_client(), 11, "nobody@example.org") == [401] * 10 + [429]
        with later(redis, 601):
            # Twenty in the hour: the wait is until that hour is over.
            browser = app.test_client()
            browser.post("/auth", json={"email": "nobody@example.org"})
            answer = browser.post("/verify", json={"OTP": "x"})
            assert answer.status_code == 429
            assert 2000 <= int(answer.headers["Retry-After"]) <= 2400


def test_a_right_code_costs_nothing(make_app, redis):
    app = make_app(MAGICAUTH_LIMIT_CODES_PER_ACCOUNT="4 per hour", MAGICAUTH_LIMIT_CODES_PER_IP="4 per hour")
    sign_up(app.test_client())
    for _ in range(6):
        assert sign_in(app.test_client()).location == "/home"
    for key in redis.keys("magicauth:*limits*codes*"):
        assert redis.get(key) == b"0"


def test_a_hundred_codes_at_once_over_many_challenges_stay_in_the_accounts_budget(make_app):
    app = make_app(**ACCOUNT_ONLY, MAGICAUTH_LIMIT_MAILS_PER_ADDRESS=NO_LIMIT)
    sign_up(app.test_client())
    browsers = [app.test_client() for _ in range(20)]
    for browser in browsers:
        browser.post("/auth", json={"email": EMAIL})
    tabs = [same_browser(browsers[n % 20]) for n in range(100)]
    told = at_once(100, lambda n: tabs[n].post("/verify", json={"OTP": "x"}).status_code)
    assert told.count(401) == 10
    assert set(told) <= {401, 404, 429}


# --- mails -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("email", [EMAIL, "nobody@example.org"])
def test_an_inbox_cannot_be_flooded(owner, mailbox, email):
    mailbox.all()
    before = len(mailbox.all(email))
    told = [other_browser(owner).post("/auth", json={"email": email}) for _ in range(7)]
    assert [answer.status_code for answer in told] == [200] * 5 + [429] * 2
    assert 3400 <= int(told[-1].headers["Retry-After"]) <= 3600
    assert len(mailbox.all(email)) == before + 5
    # Nor by other doors.
    assert other_browser(owner).post("/users/magic_link", json={"email": email}).status_code == 429
    assert other_browser(owner).post("/auth/reset", json={"email": email}).status_code == 429


def test_nor_by_other_spellings_of_its_address(make_app):
    client = make_app().test_client()
    spellings = (
        "ada.lovelace@gmail.com",
        "adalovelace@gmail.com",
        "a.d.a.lovelace+x@gmail.com",
        "AdaLovelace@googlemail.com",
    )
    told = [client.post("/users/magic_link", json={"email": spellings[n % 4]}).status_code for n in range(6)]
    assert told == [200] * 5 + [429]


def test_a_flooded_address_still_mails_its_owners_known_browser(owner, mailbox):
    for _ in range(6):
        other_browser(owner).post("/auth", json={"email": EMAIL})
    assert sign_in(owner).location == "/home"


def test_a_hundred_asks_at_once_mail_five_letters(owner, mailbox):
    before = len(mailbox.all())
    browsers = [other_browser(owner) for _ in range(100)]
    told = at_once(100, lambda n: browsers[n].post("/auth", json={"email": EMAIL}).status_code)
    assert (told.count(200), told.count(429)) == (5, 95)
    assert len(mailbox.all()) == before + 5


def test_letters_sent_again_count_like_others(client, redis):
    client.post("/auth", json={"email": "nobody@example.org"})
    told = []
    for step in range(5):
        with later(redis, 61 * (step + 1)):
            told.append(client.post("/verify/resend", json={}).status_code)
    assert told == [200] * 4 + [429]


def test_one_client_can_ask_for_twenty_letters_an_hour(client):
    told = [client.post("/auth", json={"email": f"nobody{n}@example.org"}).status_code for n in range(21)]
    assert told == [200] * 20 + [429]


def test_letters_that_were_sent_again_give_back_to_the_budget_they_were_taken_from(make_app, redis):
    app = make_app(MAGICAUTH_LIMIT_MAILS_PER_IP="20 per 20 minutes", MAGICAUTH_LIMIT_MAILS_PER_ADDRESS=NO_LIMIT)
    asked = signed_out(app.test_client())
    asked.delete_cookie("magicauth-device")

    def places():
        return sum(int(redis.get(key)) for key in redis.keys("magicauth:{limits}:mails:ip:*"))

    asked.post("/auth", data={"email": EMAIL})
    with later(redis, 540):
        asked.post("/verify/resend")
        with later(redis, 540):
            asked.post("/verify/resend")
            assert places() == 3
            with later(redis, 200):
                # The twenty minutes begin anew, with another's letter and the last of these.
                app.test_client().post("/users/magic_link", data={"email": "eve@example.org"})
                asked.post("/verify/resend")
                assert places() == 2
                code = Letters(app).last(EMAIL).code
                assert asked.post("/verify", data={"OTP": code}).location == "/auth/password"
                assert places() == 1


def test_so_do_those_that_led_a_stranger_to_an_account(make_app, redis):
    app = make_app()
    places = lambda: sum(int(redis.get(key)) for key in redis.keys("magicauth:{limits}:mails:*"))  # noqa: E731
    stranger = app.test_client()
    stranger.post("/auth", data={"email": EMAIL})
    with later(redis, 61):
        stranger.post("/verify/resend")
        assert places() == 8
        link = {"token": Letters(app).last(EMAIL).token, "name": "Ada", "password": PASSWORD}
        assert stranger.post("/users/signup", json=link).status_code == 201
        assert places() == 0


def test_letters_that_were_answered_one_by_one_give_back_no_more_than_they_took(make_app, redis):
    app = make_app(MAGICAUTH_LIMIT_MAILS_PER_ADDRESS=NO_LIMIT)
    ada, taken = app.test_client(), app.test_client()
    sign_up(taken, "eve@example.org")
    sign_up(ada)
    for number in range(8):
        app.test_client().post("/auth", json={"email": f"nobody{number}@example.org"})
    assert ada.post("/account/email", data={"email": "eve@example.org"}).location == "/verify"
    with ExitStack() as clock:
        for number in range(4):
            if number:
                clock.enter_context(later(redis, 61))
                assert ada.post("/verify/resend", json={}).status_code == 200
            link = {"token": Letters(app).last("eve@example.org").token, "email": "eve@example.org"}
            assert app.test_client().post("/auth/link", json=link).status_code == 200
            assert [int(redis.get(key)) for key in redis.keys("magicauth:{limits}:mails:ip:*")] == [8]


def test_letters_that_are_written_late_give_back_to_the_budget_they_were_taken_from(redis_url, redis, tmp_path):
    with quiet_app(redis_url, tmp_path) as app:
        stranger = app.test_client()
        app.test_client().post("/auth", data={"email": "x@example.org"})
        with later(redis, 3430), ExitStack() as clock:
            stranger.post("/auth", data={"email": EMAIL})
            clock.enter_context(later(redis, 70))
            stranger.post("/verify/resend")
            with later(redis, 150):
                app.test_client().post("/auth", data={"email": "y@example.org"})
                with later(redis, 50), delivering(app):
                    link = {"token": Letters(app).last(EMAIL).token, "name": "Ada", "password": PASSWORD}
                    assert stranger.post("/users/signup", json=link).status_code == 201
                    assert [int(redis.get(key)) for key in redis.keys("magicauth:{limits}:mails:ip:*")] == [1]


def test_a_letter_that_was_answered_costs_nothing(owner, mailbox):
    # Somebody who signs in often, each time from a browser not seen before: no letter counts that was not wasted.
    for _ in range(12):
        browser = other_browser(owner)
        browser.post("/auth", data={"email": EMAIL})
        assert browser.post("/verify", data={"OTP": mailbox.last().code}).location == "/auth/password"


def test_letters_that_are_answered_later_do_not_make_room_for_others(make_app, redis):
    app = make_app(MAGICAUTH_LIMIT_MAILS_PER_IP="2 per hour")
    ask = lambda email: app.test_client().post("/users/magic_link", json={"email": email}).status_code  # noqa: E731
    assert [ask(f"eve{n}@example.org") for n in range(2)] == [200] * 2
    with later(redis, 3700):
        assert [ask(f"nobody{n}@example.org") for n in range(3)] == [200, 200, 429]
        for n in range(2):
            link = {"token": Letters(app).last(f"eve{n}@example.org").token, "name": "Eve", "password": PASSWORD}
            assert app.test_client().post("/users/signup", json=link).status_code == 201
        assert ask("ada@example.org") == 429


def test_a_budget_that_is_refused_takes_nothing_of_the_others(make_app, redis):
    app = make_app(MAGICAUTH_LIMIT_MAILS_PER_IP="3 per hour")
    for n in range(3):
        assert app.test_client().post("/auth", json={"email": f"nobody{n}@example.org"}).status_code == 200
    before = {key: redis.get(key) for key in redis.keys("magicauth:*limits*")}
    for _ in range(3):
        assert app.test_client().post("/auth", json={"email": EMAIL}).status_code == 429
    assert {key: redis.get(key) for key in redis.keys("magicauth:*limits*")} == before


def test_a_disabled_account_is_limited_like_any_other(app, owner):
    change_user(app, disabled=True)
    assert [try_password(other_browser(owner), PASSWORD) for _ in range(4)] == [401] * 3 + [429]


def test_what_cannot_be_counted_is_refused(make_app):
    app = make_app()
    client = app.test_client()
    broken = make_app(REDIS_URL="redis://127.0.0.1:1/0").test_client()
    for path, body in (
        ("/auth", {"email": EMAIL}),
        ("/auth", {"email": EMAIL, "password": PASSWORD}),
        ("/users/magic_link", {"email": EMAIL}),
        ("/auth/reset", {"email": EMAIL}),
    ):
        assert client.post(path, json=body).status_code in (200, 401)
        answer = broken.post(path, json=body)
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        page = broken.post(path, data=body)
        assert page.status_code == 503 and "Retry-After" in page.headers


def test_a_redis_that_cannot_count_any_more_undoes_no_sign_in(client, monkeypatch):
    def away(*_):
        raise RedisConnectionError

    sign_up(client)
    monkeypatch.setattr("magicauth.limits._give_back", away)
    assert sign_in(client).location == "/home"


# --- what is given back is what was taken -----------------------------------------------------------------------------


def counted(redis):
    """Every counter of letters that everybody, or one client address, shares."""
    keys = [key for key in redis.scan_iter("magicauth:{limits}:mails:*") if b":account:" not in key]
    return {key: int(redis.get(key)) for key in keys if b":device:" not in key}


def test_no_journey_makes_room_for_letters_of_others(client, mailbox, redis):
    sign_up(client)
    stranger = other_browser(client)
    for number in range(6):
        stranger.post("/auth", data={"email": f"x{number}@example.org"})
    before = counted(redis)
    assert set(before.values()) == {6}
    # From a new browser, which is warned of; then the way out of the warning, whose letter is not counted.
    sign_in(other_browser(client))
    away = other_browser(client)
    warning = next(letter for letter in mailbox.all(EMAIL) if "not_me" in letter.link)
    assert away.post("/auth/not_me", data={"token": warning.token}).location == "/verify"
    assert away.post("/verify", data={"OTP": mailbox.last(EMAIL).code}).location == "/auth/reset/password"
    assert counted(redis) == before
    # A letter that leads to another challenge.
    other_browser(client).post("/users/magic_link", data={"email": EMAIL})
    elsewhere = other_browser(client)
    answer = elsewhere.post("/auth/link", data={"token": mailbox.last(EMAIL).token, "email": EMAIL})
    assert answer.location == "/auth/password"
    assert counted(redis) == before
