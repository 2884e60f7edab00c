"""Addresses: one canonical form for each mailbox, and nothing in them that a letter or a look-alike could abuse."""

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from instruments import quiet_app
from pages import EMAIL, JSON, PASSWORD, is_signed_in, other_browser, sign_up
from production import production
from world import look

from magicauth.addresses import canonical_for_counting, parse_email
from magicauth.errors import Invalid

examples = settings(
    max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def quiet(redis: Any, redis_url: str, tmp_path: Path) -> Iterator[Flask]:
    """An app without a mail worker, whose thread would draw on the chance that hypothesis counts on; its context."""
    with quiet_app(redis_url, tmp_path) as app, app.app_context():
        yield app


NO_ADDRESS = [
    "ada",
    "ada@",
    "@example.org",
    "ada@@example.org",
    "ada@example.org@example.org",
    "ada@example",
    "ada@.org",
    "ada@example..org",
    "ada@example.org.",
    "ada@-example.org",
    ".ada@example.org",
    "ada.@example.org",
    "ad..a@example.org",
    "ad a@example.org",
    "ada@exam ple.org",
    '"ada"@example.org',
    '"a b"@example.org',
    '"ada@evil.example"@example.org',
    "ada@[127.0.0.1]",
    "ada@[IPv6:::1]",
    "ada@127.0.0.1",
    "Ada <ada@example.org>",
    "<ada@example.org>",
    "mailto:ada@example.org",
    "ada(comment)@example.org",
    "ada@example.org(comment)",
    "ada@example.org,eve@example.org",
    "ada@example.org;eve@example.org",
    "ada@example.org eve@example.org",
    "ada@example.org\n",
    "\nada@example.org",
    "ada@example.org\r\nBcc: eve@example.org",
    "ada@example.org\nBcc: eve@example.org",
    "ada@example.org%0aBcc:eve@example.org",
    "ada@example.org\r",
    "ada\n@example.org",
    "ada@example.org\u2028",
    "ada@example.org\x85",
    "ada@example.org\x0b",
    "\tada@example.org",
    "ada@example.org\x00",
    "\x00",
    "\x1f",
    "ada\x00@example.org",
    "ada\x7f@example.org",
    "ada\x1b[31m@example.org",
    # The Kelvin sign lower-cases to an ASCII k, the dotless i upper-cases to I, the full-width @ is compatible with @.
    "\u212aada@example.org",
    "ad\u0131@example.org",
    "ada\uff20example.org",
    "ADA\u0130@example.org",
    "\ufb01@example.org",
    "\u0430da@example.org",
    "ada\u0301@example.org",
    "\u202eada@example.org",
    "ada\u200b@example.org",
    "ada@exa\u00admple.org",
    "ada@example.org\u200b",
    "ada@xn--a.org",
    "ada@" + "a" * 64 + ".org",
    "a" * 65 + "@example.org",
    "a@" + ".".join(["b" * 63] * 4) + ".org",
    "a" * 10_000 + "@example.org",
    "a@" * 5000,
]
# What is typed, the form that letters go to, and the unique key.
ADDRESSES = [
    ("ada@example.org", "ada@example.org", "ada@example.org"),
    ("Ada.Lovelace@Example.ORG", "Ada.Lovelace@example.org", "ada.lovelace@example.org"),
    ("  ada@example.org ", "ada@example.org", "ada@example.org"),
    ("\u3000ada@example.org\u00a0", "ada@example.org", "ada@example.org"),
    ("ada+tag@example.org", "ada+tag@example.org", "ada+tag@example.org"),
    ("o'hara!#$%&*/=?^_`{|}~-@example.org",) * 3,
    ("ada@bücher.example", "ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example"),
    ("ada@BÜCHER.example", "ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example"),
    ("ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example"),
    # In a domain such letters are folded to ASCII before anything looks at them, or are a domain of their own.
    ("ada@\u212aelvin.example", "ada@kelvin.example", "ada@kelvin.example"),
    ("ada@exampl\uff45.org", "ada@example.org", "ada@example.org"),
    ("ada@example\u3002org", "ada@example.org", "ada@example.org"),
    ("ada@ex\u0131mple.org", "ada@xn--exmple-q9a.org", "ada@xn--exmple-q9a.org"),
    ("ada@localhost", "ada@localhost", "ada@localhost"),
    ("ada@site.test", "ada@site.test", "ada@site.test"),
    ("a" * 64 + "@example.org",) * 3,
]


@pytest.mark.parametrize("path", ["/auth", "/users/magic_link", "/auth/reset"])
def test_what_is_no_address_is_400_and_nobody_gets_a_letter(client, path):
    before = look(client.application)
    for email in NO_ADDRESS:
        answer = client.post(path, json={"email": email, "password": PASSWORD})
        assert answer.status_code == 400, email
        assert answer.get_json()["message"] == "Email is invalid.", email
        assert answer.get_json()["errors"] == {"email": ["Email is invalid."]}
        page = client.post(path, data={"email": email, "password": PASSWORD})
        assert (page.status_code, 'id="email-error"' in page.text) == (400, True), email
        assert PASSWORD not in page.text
    assert look(client.application) == before


def test_nobody_moves_to_what_is_no_address(client, mailbox):
    sign_up(client)
    before = look(client.application)
    for email in NO_ADDRESS:
        assert client.post("/account/email", json={"email": email}).get_json()["message"] == "Email is invalid.", email
    assert look(client.application) == before


def test_a_letter_goes_to_the_ascii_form_of_what_was_typed(client, mailbox):
    for typed, _, _ in ADDRESSES:
        assert client.post("/users/magic_link", data={"email": typed}).status_code in (303, 429), typed
    arrived = {letter.to for letter in mailbox.all()}
    assert arrived <= {shown for _, shown, _ in ADDRESSES}
    assert all(to.isascii() for to in arrived)


def test_an_address_has_one_account_however_it_is_written(client, mailbox):
    sign_up(client, "Ada@example.org")
    assert client.get("/home", headers=JSON).get_json()["user"]["email"] == "Ada@example.org"
    for typed in ("ada@example.org", "ADA@EXAMPLE.ORG", " ada@Example.org", "ada@exampl\uff45.org"):
        browser = other_browser(client)
        browser.post("/auth", data={"email": typed, "password": PASSWORD})
        # To the address that was proven, not to the one that was typed now.
        assert mailbox.last().to == "Ada@example.org"
        assert browser.post("/verify", data={"OTP": mailbox.last().code}).location == "/home", typed


def test_a_look_alike_is_somebody_else(client, mailbox):
    sign_up(client, "ada@example.org")
    browser = other_browser(client)
    browser.post("/users/magic_link", data={"email": "ada@ex\u0131mple.org"})
    form = {"token": mailbox.last("ada@xn--exmple-q9a.org").token, "name": "Not Ada", "password": PASSWORD}
    assert browser.post("/users/signup", data=form).location == "/home"
    assert browser.get("/home", headers=JSON).get_json()["user"]["name"] == "Not Ada"


def test_production_takes_no_names_that_only_this_machine_knows(make_new_app, tmp_path):
    client = production(make_new_app, tmp_path).test_client()
    for email in ("ada@localhost", "ada@site.test", "ada@x.localhost", "ada@printer.local", "ada@x.invalid"):
        assert client.post("/users/magic_link", json={"email": email}).status_code == 400, email


def test_each_address_has_its_canonical_form(quiet):
    assert [parse_email(typed) for typed, _, _ in ADDRESSES] == [(key, shown) for _, shown, key in ADDRESSES]


local = st.text("abcXYZ019.!#$%&'*+-/=?^_`{|}~", min_size=1, max_size=20)
domain = st.text("abcXYZ019-.ü\u212a\u0131\uff45\u3002ß\u0430", min_size=1, max_size=20).map(lambda name: f"{name}.org")
anything = st.text() | st.text('ada@example.org "\n\r\t\0<>,;:()[]\\%\u212a\uff20\u0131\u200b', max_size=30)


@examples
@given(typed=anything | st.tuples(local | anything, domain | anything).map("@".join))
@example("ada@example.org\n")
@example("ada@example.org" + " " * 10_000)
def test_whatever_is_typed_is_an_address_or_refused(quiet, typed):
    try:
        key, shown = parse_email(typed)
    except Invalid as refusal:
        assert refusal.errors in ({"email": ["Email is invalid."]}, {"email": ["Email required."]})
        return
    assert re.fullmatch(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[a-z0-9.-]+", shown)
    assert key == shown.lower() and len(key) <= 254
    # Both forms are addresses themselves, of the same mailbox.
    assert parse_email(shown) == (key, shown)
    assert parse_email(key) == (key, key)
    assert parse_email(typed.upper())[0] == key or not typed.isascii()
    assert "\n" not in typed and "\r" not in typed


@examples
@given(
    name=st.text(st.characters(min_codepoint=128, exclude_categories=["Cs"]), min_size=1, max_size=5),
    at=st.integers(0, 3),
)
def test_no_local_part_is_anything_but_ascii(quiet, name, at):
    ada = "ada"
    # Space of other scripts around an address is forgiven, inside it is not.
    if at in (0, 3) and not name.strip("\u00a0\u3000"):
        return
    with pytest.raises(Invalid):
        parse_email(f"{ada[:at]}{name}{ada[at:]}@example.org")


@examples
@given(
    email=st.tuples(
        st.text("abc.+", min_size=1, max_size=12), st.sampled_from(["gmail.com", "googlemail.com", "x.org"])
    )
)
def test_counting_folds_what_leads_to_one_mailbox(email):
    name, host = email
    counted = canonical_for_counting(f"{name}@{host}")
    assert canonical_for_counting(counted) == counted or "+" in counted
    assert canonical_for_counting(f"{name}@{host}") == counted
    if "+" not in name:
        assert canonical_for_counting(f"{name}+tag@{host}") == counted
    assert counted.endswith("@x.org" if host == "x.org" else "@gmail.com")


def test_counting_folds_tags_and_gmails_dots_and_nothing_else():
    assert (
        canonical_for_counting("ada+1@example.org") == canonical_for_counting("ada+2@example.org") == "ada@example.org"
    )
    assert canonical_for_counting("a.d.a+x@googlemail.com") == canonical_for_counting("ada@gmail.com")
    assert canonical_for_counting("a.da@example.org") != canonical_for_counting("ada@example.org")
    assert canonical_for_counting("+@example.org") == "+@example.org"
    assert canonical_for_counting(".@gmail.com") == ".@gmail.com"


def test_letters_to_tags_of_one_mailbox_are_counted_together_and_open_accounts_apart(client):
    asked = [client.post("/users/magic_link", json={"email": f"ada+{n}@example.org"}).status_code for n in range(6)]
    assert asked == [200] * 5 + [429]
    assert client.post("/users/magic_link", json={"email": "grace@example.org"}).status_code == 200
    assert not is_signed_in(client)


def test_no_format_character_is_left_in_an_address(quiet):
    for codepoint in range(0x2000, 0x2070):
        character = chr(codepoint)
        if unicodedata.category(character) in ("Cf", "Zl", "Zp"):
            with pytest.raises(Invalid):
                parse_email(f"{EMAIL}{character}")
