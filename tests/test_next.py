"""`next`: a path of ours, or ignored: checked by where a browser goes when it has read the final Location."""

import re
from urllib.parse import urlencode

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pages import EMAIL, JSON, Letters, other_browser
from werkzeug.utils import redirect

from magicauth.next_page import own_path

HERE = "http://localhost"


def where_browsers_go(location: str) -> str:
    """The origin that `location` leads to from a page of ours, as the WHATWG URL standard reads it.

    Unlike urllib, browsers drop tabs and line breaks wherever they stand, trim control characters and spaces, take
    `\\` for `/`, and forgive any number of slashes before a host.
    """
    text = re.sub("[\t\n\r]", "", location.strip("".join(map(chr, range(0x21)))))
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", text)
    if scheme:
        if scheme[1].lower() not in ("http", "https", "ws", "wss", "ftp", "file"):
            return text
        rest = text[scheme.end() :]
        if scheme[1].lower() == "http" and not re.match(r"[/\\]{2}", rest):
            return HERE
        return f"{scheme[1].lower()}://{_host(rest)}"
    if re.match(r"[/\\]{2}", text):
        return f"http://{_host(text)}"
    return HERE


def _host(text: str) -> str:
    return re.split(r"[/\\?#]", text.lstrip("/\\"), maxsplit=1)[0].rpartition("@")[2].lower()


def test_the_reading_of_browsers_is_the_standards():
    """The answers that Chromium's `new URL(location, "http://localhost/auth").origin` gives."""
    elsewhere = {
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "\x01//evil.example",
        " //evil.example",
        "http://evil.example",
        "https:evil.example",
        "https:/evil.example",
        "http:\\\\evil.example",
        "HTTP:///evil.example",
        "//localhost@evil.example",
        "///evil.example",
        "javascript:alert(1)",
        "h\nttp://evil.example",
    }
    assert [location for location in elsewhere if where_browsers_go(location) == HERE] == []
    here = {
        "/",
        "/home",
        "",
        "home",
        "?x",
        "#x",
        "/x//y",
        "/http://evil.example",
        "http:home",
        "http:/home",
        "/;//x",
        "/.//x",
    }
    assert [location for location in here if where_browsers_go(location) != HERE] == []


EVIL = [
    # Forms of ours, which no browser can open.
    "/logout",
    "/verify/resend?x=1",
    "//evil.example",
    "///evil.example",
    "////evil.example",
    "/\\evil.example",
    "\\/evil.example",
    "\\\\evil.example",
    "/\\/evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "/\r/evil.example",
    "/\r\n/evil.example",
    "\t//evil.example",
    " //evil.example",
    "\x00//evil.example",
    "\x01//evil.example",
    "/\x00/evil.example",
    "/\x0b/evil.example",
    "/\x7f/evil.example",
    "/\x85/evil.example",
    "/\u2028/evil.example",
    "/\u200b/evil.example",
    "/\ufeff/evil.example",
    "/%09/evil.example",
    "/%0a/evil.example",
    "/%0d%0aLocation:%20https://evil.example",
    "/%00/evil.example",
    "/%2f/evil.example",
    "/%2Fevil.example",
    "/%2f%2fevil.example",
    "/%5cevil.example",
    "/%5Cevil.example",
    "/%255cevil.example",
    "/%252fevil.example",
    "/%2509/evil.example",
    "/.//evil.example",
    "/..//evil.example",
    "/%2e//evil.example",
    "/home/..//evil.example",
    "/home//evil.example",
    "http://evil.example",
    "https://evil.example/home",
    "HTTPS://EVIL.EXAMPLE",
    "https:evil.example",
    "https:/evil.example",
    "http:\\\\evil.example",
    "http://localhost@evil.example",
    "http://localhost.evil.example/home",
    "http://localhost/home",
    "//localhost/home",
    "ftp://evil.example",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "java\nscript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:msgbox(1)",
    "mailto:eve@evil.example",
    "evil.example",
    "home",
    "./home",
    "../home",
    "?next=/home",
    "#/home",
    "@evil.example",
    ":8080/home",
    ";/home",
    "/[//evil.example",
    "//[",
    "/home\x00",
    "/home\nSet-Cookie: a=b",
    "/home%0d%0aSet-Cookie:%20a=b",
    "/home#//evil.example",
    "/" + "a" * 2048,
    "/home?x=" + "é" * 1100,
    "/" + "%61" * 700,
    "",
]
OWN = [
    "/home",
    "/",
    "/account?tab=1",
    "/search?q=a%20b&page=2",
    "/search?q=100%25",
    "/search?back=https://elsewhere.example/x",
    "/search?q=a+b;c",
    "/a/b/c.html",
    "/a(b)!$&'*,:@",
    "/ünï/日本",
    "/%C3%BCn%C3%AF",
    "/home#section",
    "/" + "a" * 2000,
]


@pytest.fixture
def without_passwords(make_app):
    """A browser on an app where a sign-in is one code."""
    app = make_app(MAGICAUTH_PASSWORDS="off", MAGICAUTH_LIMIT_MAILS_PER_ADDRESS="1000 per hour")
    client = app.test_client()
    client.post("/users/magic_link", data={"email": EMAIL})
    client.post("/users/signup", data={"token": Letters(app).last().token, "name": "Ada"})
    return client


@pytest.mark.parametrize("query", ["x=" + "%C3%A9" * 1300, "&" * 4000, "x" * 2048])
def test_a_page_with_a_query_that_is_too_long_to_come_back_to_leads_to_the_sign_in_alone(client, query):
    assert client.get(f"/home?{query}").location == "/auth"


def test_a_next_that_is_not_a_path_of_ours_is_ignored_whatever_is_bad_about_it(without_passwords):
    signed_in, stranger = without_passwords, other_browser(without_passwords)
    for value in EVIL:
        there = signed_in.get("/auth", query_string={"next": value})
        assert (there.status_code, there.location) == (303, "/home"), value
        assert 'name="next"' not in stranger.get("/auth", query_string={"next": value}).text, value


def test_a_bad_next_is_ignored_when_a_sign_in_begins_too(without_passwords):
    asking = other_browser(without_passwords)
    # Each begins the same sign-in again, which would go where the last good one said.
    for value in EVIL:
        assert asking.post("/auth", data={"email": EMAIL, "next": value}).location == "/verify", value
    for value in (5, True, [], ["/account"], {}, {"path": "/account"}, None, *EVIL):
        assert asking.post("/auth", json={"email": EMAIL, "next": value}).get_json()["next"] == "/verify", value
    code = Letters(asking.application).last().code
    assert asking.post("/verify", data={"OTP": code}).location == "/home"


def test_a_path_of_ours_is_where_one_lands(without_passwords):
    signed_in, letters = without_passwords, Letters(without_passwords.application)
    for value in OWN:
        there = signed_in.get("/auth", query_string={"next": value}).location
        assert where_browsers_go(there) == HERE, value
        assert there.startswith("/") and there.isascii(), value
        assert (there == "/home") == (value == "/home"), value
        browser = other_browser(signed_in)
        browser.post("/auth", data={"email": EMAIL, "next": value})
        assert browser.post("/verify", data={"OTP": letters.last().code}).location == there, value


def test_next_is_kept_by_the_server_and_not_asked_again(without_passwords):
    browser = other_browser(without_passwords)
    browser.post("/auth", data={"email": EMAIL, "next": "/account"})
    form = {"OTP": Letters(browser.application).last().code, "next": "/home"}
    assert browser.post("/verify?next=/home", data=form).location == "/account"


def test_a_next_given_twice_in_the_query_is_ignored(without_passwords):
    assert without_passwords.get("/auth?next=/account&next=/account").location == "/home"
    assert without_passwords.get("/auth?next=/account&next=//evil.example", headers=JSON).get_json()["next"] == "/home"


def test_a_next_in_the_query_of_the_form_is_shown_in_the_form(client):
    assert (
        '<input type="hidden" name="next" value="/account?a=1&amp;b=2">'
        in client.get("/auth?" + urlencode({"next": "/account?a=1&b=2"})).text
    )


slippery = st.lists(
    st.sampled_from(
        ["/", "\\", "%2f", "%5c", "%09", "%0a", "%25", "\t", "\n", "\x00", ".", "..", ":", "@", "?", "#", "[", "]"]
    )
    | st.sampled_from(
        ["evil.example", "http", "https:", "javascript:", "home", "é", "\u3000", "\u2028", "\uff05", "\uff0f", " "]
    )
    | st.text(max_size=3),
    max_size=12,
).map("".join)


@settings(max_examples=200, deadline=None, database=None)
@given(value=slippery | slippery.map("/".__add__))
@example("/%09/evil.example")
@example("/\\evil.example")
def test_whatever_is_kept_leads_to_a_page_of_ours(whole_stage, value):
    with whole_stage.app().app_context():
        kept = own_path(value)
    assert kept in ("", value)
    if kept:
        environ = {"wsgi.url_scheme": "http", "HTTP_HOST": "localhost", "SERVER_NAME": "localhost", "SERVER_PORT": "80"}
        location = redirect(kept, 303).get_wsgi_headers(environ)["Location"]
        assert where_browsers_go(location) == HERE
        assert re.fullmatch(r"/([!-\[\]-~]*)", location)
        assert not location.startswith("//")
