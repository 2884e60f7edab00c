"""Letters as they arrive at a mail server: every one of them, parsed from what was sent over SMTP."""

import email
import email.policy
import re
import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parseaddr, parsedate_to_datetime
from urllib.parse import parse_qs, urlsplit

import pytest
from bs4 import BeautifulSoup
from conftest import wait_for
from instruments import change_user, delivering, later, letters_waiting, quiet_app
from pages import PASSWORD, Browser
from servers import SmtpServer

from magicauth import challenges, mail
from magicauth.config import ConfigError
from magicauth.outbox import Job

PUBLIC_URL = "https://id.example.org"
FIREFOX = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
SETTINGS = {
    "PUBLIC_URL": PUBLIC_URL,
    "MAGICAUTH_LIMIT_MAILS_PER_ADDRESS": "1000 per hour",
    "MAGICAUTH_LIMIT_MAILS_PER_IP": "1000 per hour",
}
LARGEST = 30_000
LONGEST_LINE = 998  # RFC 5321, section 4.5.3.1.6, without the line's end


@dataclass(frozen=True)
class Arrived:
    """A letter as the mail server took it."""

    sender: str
    recipients: list[str]
    raw: bytes

    @property
    def message(self):
        return email.message_from_bytes(self.raw, policy=email.policy.default)

    @property
    def subject(self):
        return str(self.message["Subject"])

    @property
    def text(self):
        return self.message.get_body(("plain",)).get_content().replace("\r\n", "\n")

    @property
    def html(self):
        return self.message.get_body(("html",)).get_content()

    @property
    def links(self):
        return re.findall(r"https?://[^\s<>\"]+", self.text)

    @property
    def token(self):
        return parse_qs(urlsplit(self.links[0]).query)["token"][0]

    @property
    def code(self):
        return re.search(r"^    ([0-9][0-9 ]+)$", self.text, re.MULTILINE)[1].replace(" ", "")


class Sink:
    """A mail server that takes every letter."""

    def __init__(self):
        self.letters = []

    async def handle_DATA(self, _server, _session, envelope):
        self.letters.append(Arrived(envelope.mail_from, envelope.rcpt_tos, envelope.content))
        return "250 OK"

    def last(self, to, count=1):
        """The `count`-th letter to that address, once it is there."""
        return wait_for(lambda: [letter for letter in self.letters if letter.recipients == [to]][count - 1 : count])[0]


class PublicBrowser(Browser):
    """A browser that comes by the public name."""

    def open(self, *args, **kwargs):
        kwargs = {"base_url": self.application.config["PUBLIC_URL"], "headers": FIREFOX} | kwargs
        return super().open(*args, **kwargs)


@contextmanager
def site(redis_url, folder, **settings):
    """An app whose letters go to a mail server; yields both."""
    sink, bound = Sink(), socket.socket()
    bound.bind(("127.0.0.1", 0))
    server = SmtpServer(bound, sink)
    server.start()
    post = {"MAIL_SERVER": "127.0.0.1", "MAIL_PORT": str(server.port)}
    try:
        with quiet_app(redis_url, folder, **(SETTINGS | post | settings)) as app:
            app.test_client_class = PublicBrowser
            with delivering(app):
                yield app, sink
    finally:
        server.stop()
        bound.close()


def test_a_letter_that_waited_while_the_address_of_the_site_was_mended_has_the_new_one(redis, redis_url, tmp_path):
    with site(redis_url, tmp_path) as (app, _), app.app_context():
        challenge = challenges.issue("sign_up", "ada@example.org")
        asked = {"at": 1.5, "browser": "", "ip": "", "base_url": "https://id.exmaple.org", "language": "en"}
        message = mail.write(Job("invitation", challenge.id, context=asked), challenge)
    assert f"{PUBLIC_URL}/users/signup?token=" in message.body
    assert "exmaple" not in message.body + message.html


def join(app, sink, to, count=1, name="Ada"):
    """A browser that has signed up."""
    browser = app.test_client()
    browser.post("/users/magic_link", data={"email": to})
    form = {"token": sink.last(to, count).token, "name": name, "password": PASSWORD}
    assert browser.post("/users/signup", data=form).location == "/home"
    return browser


def write_every_letter(app, sink):
    """Each letter that there is, by name."""
    ada, found = join(app, sink, "ada@example.org"), {"sign_up": sink.last("ada@example.org")}
    stranger, runner = app.test_client(), app.test_cli_runner()

    def keep(name, to, count):
        found[name] = sink.last(to, count)
        return found[name]

    stranger.post("/auth", data={"email": "ada@example.org", "password": PASSWORD})
    code = keep("sign_in", "ada@example.org", 2).code
    assert stranger.post("/verify", data={"OTP": code}).location == "/home"
    keep("new_browser", "ada@example.org", 3)
    stranger.post("/users/magic_link", data={"email": "ada@example.org"})
    keep("has_account", "ada@example.org", 4)
    stranger.post("/auth", data={"email": "nobody@example.org"})
    keep("no_account", "nobody@example.org", 1)
    stranger.post("/auth/reset", data={"email": "ada@example.org"})
    keep("reset", "ada@example.org", 5)
    ada.post("/auth/fresh/code")
    keep("fresh", "ada@example.org", 6)
    thief = app.test_client()
    thief.post("/auth", data={"email": "ada@example.org", "password": PASSWORD})
    sink.last("ada@example.org", 7)
    for _ in range(5):
        thief.post("/verify", data={"OTP": "x"})
    keep("codes_used_up", "ada@example.org", 8)
    ada.post("/account/sessions/end_others")
    keep("sessions_ended", "ada@example.org", 9)
    ada.post("/account/password", data={"old_password": PASSWORD, "password": f"{PASSWORD}!"})
    keep("password_changed", "ada@example.org", 10)
    ada.post("/account/email", data={"email": "o'hara+new@example.org"})
    assert (
        ada.post("/verify", data={"OTP": keep("change_email", "o'hara+new@example.org", 1).code}).location == "/account"
    )
    stranger.post("/account/email/undo", data={"token": keep("email_changed", "ada@example.org", 11).token})
    keep("email_undone", "o'hara+new@example.org", 2)
    leaving = join(app, sink, "o'hara+new@example.org", 3)
    leaving.post("/account/delete", data={"email": "o'hara+new@example.org"})
    keep("account_deleted", "o'hara+new@example.org", 4)
    join(app, sink, "dis@example.org")
    change_user(app, "dis@example.org", disabled=True)
    stranger.post("/auth", data={"email": "dis@example.org"})
    keep("disabled_account", "dis@example.org", 2)
    runner.invoke(args=["users", "invite", "guest@example.org"])
    keep("invitation", "guest@example.org", 1)
    runner.invoke(args=["mail", "send-test", "operator@example.org"])
    keep("test", "operator@example.org", 1)
    return found


NAMES = (
    "account_deleted",
    "change_email",
    "codes_used_up",
    "disabled_account",
    "email_changed",
    "email_undone",
    "fresh",
    "has_account",
    "invitation",
    "new_browser",
    "no_account",
    "password_changed",
    "reset",
    "sessions_ended",
    "sign_in",
    "sign_up",
    "test",
)
WITH_CODE = ("change_email", "fresh", "reset", "sign_in")
WITH_LINK = ("change_email", "email_changed", "has_account", "invitation", "no_account", "reset", "sign_in", "sign_up")


@pytest.fixture(scope="module")
def letters(redis_url, tmp_path_factory):
    """Every letter by name, sent once for all the tests below."""
    with site(redis_url, tmp_path_factory.mktemp("letters")) as (app, sink):
        app.extensions["magicauth-redis"].flushall()
        return write_every_letter(app, sink)


def test_every_template_is_looked_at_here(app):
    templates = {
        name.removeprefix("mail/").partition(".")[0]
        for name in app.jinja_env.list_templates()
        if name.startswith("mail/")
    }
    assert {name for name in templates if not name.startswith("_")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_text_and_html_of_the_same(letters, name):
    message = letters[name].message
    (alternative,) = [part for part in message.walk() if part.get_content_type() == "multipart/alternative"]
    assert [part.get_content_type() for part in alternative.iter_parts()] == ["text/plain", "text/html"]
    assert [part for part in message.walk() if not part.is_multipart()] == list(alternative.iter_parts())
    assert all(part.get_content_charset() == "utf-8" for part in alternative.iter_parts())
    html = BeautifulSoup(letters[name].html, "html.parser")
    assert html.html["lang"] == "en" and html.html["dir"] == "ltr" and html.title.get_text(strip=True)
    hrefs = {link["href"] for link in html.find_all("a")} - {PUBLIC_URL}
    assert hrefs == set(letters[name].links)
    title = " ".join(html.find("h1").get_text().split())
    assert " ".join(letters[name].text.split()).startswith(title)
    for text in (letters[name].text, html.get_text()):
        assert not re.search(r"\{\{|\}\}|%\(|\bNone\b|&amp;|&#", text)


@pytest.mark.parametrize("name", NAMES)
def test_the_headers_are_those_of_a_machine_that_wants_no_answer(letters, name):
    arrived, message = letters[name], letters[name].message
    assert message["Auto-Submitted"] == "auto-generated"
    assert re.fullmatch(r"<[A-Za-z0-9_-]{22}@id\.example\.org>", message["Message-ID"])
    assert parseaddr(message["From"]) == ("magicauth", "no-reply@id.example.org")
    assert parseaddr(message["Reply-To"])[1] == "no-reply@id.example.org"
    assert arrived.sender == "no-reply@id.example.org"
    assert abs(parsedate_to_datetime(message["Date"]).timestamp() - time.time()) < 600
    assert message["MIME-Version"] == "1.0"
    for header in ("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "Reply-To"):
        assert len(message.get_all(header)) == 1
    assert not any(message[header] for header in ("Cc", "Bcc", "List-Unsubscribe", "Disposition-Notification-To"))


@pytest.mark.parametrize("name", NAMES)
def test_one_letter_goes_to_one_address(letters, name):
    arrived = letters[name]
    assert len(arrived.recipients) == 1
    assert parseaddr(arrived.message["To"]) == ("", arrived.recipients[0])


def test_no_two_letters_have_the_same_id(letters):
    assert len({arrived.message["Message-ID"] for arrived in letters.values()}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_small_and_of_short_lines(letters, name):
    raw = letters[name].raw
    assert len(raw) < LARGEST
    assert max(map(len, raw.split(b"\r\n"))) <= LONGEST_LINE
    assert all(len(line) <= 76 or line in letters[name].links for line in letters[name].text.splitlines())


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_loaded_from_anywhere_and_nobody_is_followed(letters, name):
    html = letters[name].html
    page = BeautifulSoup(html, "html.parser")
    assert not page.find_all(
        ["img", "link", "script", "iframe", "object", "embed", "video", "audio", "source", "form", "input"]
    )
    assert not page.find_all(attrs={"src": True}) and not page.find_all(attrs={"background": True})
    assert not re.search(r"url\(|@import|@font-face|cid:|javascript:", html, re.IGNORECASE)
    for url in letters[name].links:
        parts = urlsplit(url)
        assert f"{parts.scheme}://{parts.netloc}" == PUBLIC_URL
        assert set(parse_qs(parts.query)) <= {"token"} and not parts.fragment
    assert {element.get("href", PUBLIC_URL).startswith(PUBLIC_URL) for element in page.find_all("a")} <= {True}


@pytest.mark.parametrize("name", WITH_CODE)
def test_the_code_is_grouped_for_reading_in_subject_text_and_html(letters, name):
    arrived = letters[name]
    grouped = f"{arrived.code[:3]} {arrived.code[3:]}"
    assert arrived.subject.startswith(f"{grouped} ")
    shown = BeautifulSoup(arrived.html, "html.parser").find(class_="well")
    assert shown.get_text() == grouped and "user-select:all" in shown["style"] and shown["dir"] == "ltr"


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(WITH_CODE)))
def test_what_has_no_code_shows_none(letters, name):
    # Moments and hours apart, there is no number in it.
    assert not re.search(
        r"\b[0-9]{3} ?[0-9]{3}\b",
        letters[name].subject + letters[name].text.replace(letters[name].links[0] if letters[name].links else "-", ""),
    )
    assert not BeautifulSoup(letters[name].html, "html.parser").find(class_="well")


@pytest.mark.parametrize("name", WITH_LINK)
def test_a_link_says_until_when_it_is_good(letters, name):
    for told in (letters[name].text, letters[name].html):
        assert re.search(r"\b(10|60) minutes\b|\b(24|72) hours\b", told)


@pytest.mark.parametrize("name", NAMES)
def test_it_says_when_by_which_browser_and_from_where(letters, name):
    # The people who run the site have neither: their command has.
    asked = [] if name in ("invitation", "test") else ["Browser: Firefox on Linux", "Where from: 127.0.0.1"]
    for told in (letters[name].text, BeautifulSoup(letters[name].html, "html.parser").get_text()):
        assert re.search(r"When: \w+ \d+, \d+, \d+:\d\d\s[AP]M UTC", told)
        assert [line for line in told.splitlines() if line.startswith(("Browser", "Where from"))] == asked


@pytest.mark.parametrize(
    "name", ["sign_in", "reset", "sign_up", "change_email", "fresh", "has_account", "no_account", "invitation"]
)
def test_it_says_what_to_do_if_it_was_not_you(letters, name):
    for told in (letters[name].text, letters[name].html):
        assert re.search(r"You did not ask for this\?|Not expected\?", told)


@pytest.mark.parametrize("name", NAMES)
def test_words_of_somebodys_choice_keep_their_reading_direction_to_themselves(letters, name):
    page = BeautifulSoup(letters[name].html, "html.parser")
    for isolated in page.body.find_all("bdi"):
        isolated.clear()
    rest = page.body.get_text()
    # The browser is a phrase of ours, in the reader's language.
    chosen = ("magicauth", *letters[name].recipients, "o'hara", "127.0.0.1")
    # Addresses of pages, which are links, apart.
    assert not [words for words in chosen if words in re.sub(r"https?://\S+", "", rest)]


def test_a_letter_names_nobody_but_its_reader(letters):
    for arrived in letters.values():
        others = {"ada@example.org", "o'hara+new@example.org", "nobody@example.org"} - set(arrived.recipients)
        assert not [other for other in others if other in arrived.text + arrived.html]


# --- links -----------------------------------------------------------------------------------------------------------


def test_links_begin_with_the_public_url_whatever_the_request_says(redis, redis_url, tmp_path):
    with site(redis_url, tmp_path, MAGICAUTH_LIMIT_MAILS_PER_ADDRESS="100 per hour") as (app, sink):
        number = 0
        for headers in (
            {"X-Forwarded-Host": "evil.example"},
            {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http", "X-Forwarded-Prefix": "/evil"},
            {"Forwarded": "host=evil.example;proto=http"},
            {"X-Original-Host": "evil.example", "X-Host": "evil.example", "X-HTTP-Host-Override": "evil.example"},
            {"Referer": "https://evil.example/"},
        ):
            for path in ("/auth/reset", "/users/magic_link"):
                asked = app.test_client().post(path, data={"email": "ada@example.org"}, headers=headers)
                assert asked.status_code == 303, (path, headers)
                number += 1
                arrived = sink.last("ada@example.org", number)
                assert arrived.links and all(link.startswith(f"{PUBLIC_URL}/") for link in arrived.links)
                assert b"evil" not in arrived.raw and "evil" not in arrived.html


@pytest.mark.parametrize(
    "host", ["evil.example", "id.example.org.evil.example", "id.example.org:8443", "evil.example#id.example.org"]
)
def test_a_request_to_a_foreign_host_sends_no_letter(redis, redis_url, tmp_path, host):
    with site(redis_url, tmp_path) as (app, sink):
        browser = app.test_client()
        answer = browser.post("/users/magic_link", data={"email": "ada@example.org"}, headers={"Host": host})
        assert answer.status_code == 400
        browser.post("/users/magic_link", data={"email": "bob@example.org"})
        sink.last("bob@example.org")
        assert len(sink.letters) == 1


def test_a_trusted_proxys_host_is_checked_like_any_other(redis, redis_url, tmp_path):
    with site(redis_url, tmp_path, MAGICAUTH_TRUSTED_PROXIES="1") as (app, sink):
        browser = app.test_client()
        evil = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"}
        assert browser.post("/users/magic_link", data={"email": "ada@example.org"}, headers=evil).status_code == 400
        good = evil | {"X-Forwarded-Host": "id.example.org"}
        assert browser.post("/users/magic_link", data={"email": "ada@example.org"}, headers=good).status_code == 303
        arrived = sink.last("ada@example.org")
        assert arrived.links[0].startswith(f"{PUBLIC_URL}/users/signup?token=") and "203.0.113.9" in arrived.text


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("digits", "groups"), [("7", [3, 3, 1]), ("8", [4, 4]), ("10", [5, 5])])
def test_codes_of_every_length_are_grouped(redis, redis_url, tmp_path, digits, groups):
    with site(redis_url, tmp_path, MAGICAUTH_CODE_DIGITS=digits) as (app, sink):
        join(app, sink, "ada@example.org")
        browser = app.test_client()
        browser.post("/auth", data={"email": "ada@example.org", "password": PASSWORD})
        arrived = sink.last("ada@example.org", 2)
        shown = arrived.subject.partition(" is your ")[0]
        assert [len(group) for group in shown.split()] == groups
        assert browser.post("/verify", data={"OTP": shown}).location == "/home"


@pytest.mark.parametrize("name", ['Ada & Söhne <b>"x"</b>', "サイト", "a, b; c <no-reply@evil.example>", "back\\slash"])
def test_a_site_name_is_text_wherever_it_stands(redis, redis_url, tmp_path, name):
    with site(redis_url, tmp_path, MAGICAUTH_SITE_NAME=name) as (app, sink):
        app.test_client().post("/users/magic_link", data={"email": "ada@example.org"})
        arrived = sink.last("ada@example.org")
        for header in (
            arrived.message["From"],
            email.message_from_bytes(arrived.raw, policy=email.policy.SMTP)["From"],
        ):
            (address,) = header.addresses
            assert (address.display_name, address.addr_spec) == (name, "no-reply@id.example.org")
        assert arrived.sender == "no-reply@id.example.org"
        assert arrived.subject == f"Finish signing up for {name}"
        page = BeautifulSoup(arrived.html, "html.parser")
        assert name in page.get_text() and not page.find("b")


@pytest.mark.parametrize("name", ["MAGICAUTH_SITE_NAME", "MAIL_DEFAULT_SENDER"])
def test_a_setting_that_would_write_a_header_is_refused_at_the_start(redis_url, tmp_path, name):
    value = "Help <help@example.org>\r\nBcc: eve@example.org"
    with pytest.raises(ConfigError, match=name), quiet_app(redis_url, tmp_path, **{name: value}):
        pass


def test_the_sender_may_be_named_by_the_operator(redis, redis_url, tmp_path):
    with site(redis_url, tmp_path, MAIL_DEFAULT_SENDER="Help at Example <help@example.org>") as (app, sink):
        app.test_client().post("/users/magic_link", data={"email": "ada@example.org"})
        arrived = sink.last("ada@example.org")
        assert parseaddr(arrived.message["From"]) == ("Help at Example", "help@example.org")
        assert arrived.sender == parseaddr(arrived.message["Reply-To"])[1] == "help@example.org"
        assert arrived.message["Message-ID"].endswith("@example.org>")


def test_where_sign_up_is_closed_a_stranger_is_told_without_a_link(redis, redis_url, tmp_path):
    with site(redis_url, tmp_path, MAGICAUTH_SIGN_UP="closed") as (app, sink):
        app.test_client().post("/auth", data={"email": "ada@example.org"})
        arrived = sink.last("ada@example.org")
        assert "no account" in arrived.subject.lower() and arrived.links == []


@pytest.mark.parametrize("mode", ["closed", "invite"])
def test_where_sign_up_is_not_open_a_stranger_is_told_once_a_day_however_it_is_asked_for(
    redis, redis_url, tmp_path, mode
):
    settings = {"MAGICAUTH_SIGN_UP": mode, "MAGICAUTH_RESEND_AFTER": "60"}
    with site(redis_url, tmp_path, **settings) as (app, sink):
        browser = app.test_client()
        browser.post("/auth", data={"email": "ada@example.org"})
        sink.last("ada@example.org")
        for number, path in enumerate(("/auth", "/verify/resend", "/auth"), 1):
            with later(redis, 61 * number):
                assert browser.post(path, data={"email": "ada@example.org"}).location == "/verify"
                app.test_client().post("/auth", data={"email": "ada@example.org"})
                wait_for(lambda: not letters_waiting(redis))
        assert len([letter for letter in sink.letters if letter.recipients == ["ada@example.org"]]) == 1


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (30, "1 minute "),
        (90, "1 minute "),
        (600, "10 minutes"),
        (3599, "59 minutes"),
        (3600, "1 hour "),
        (5400, "90 minutes"),
        (7300, "2 hours"),
    ],
)
def test_a_letter_never_says_more_than_its_life(redis, redis_url, tmp_path, seconds, words):
    with site(redis_url, tmp_path, MAGICAUTH_SIGN_UP_TTL=str(seconds)) as (app, sink):
        app.test_client().post("/users/magic_link", data={"email": "ada@example.org"})
        arrived = sink.last("ada@example.org")
        assert f"is good for {words}" in arrived.text
        assert f"is good for {words}" in arrived.html


@pytest.mark.parametrize("name", ["new_browser", "password_changed", "sessions_ended", "codes_used_up"])
def test_a_warning_says_until_when_its_link_is_good(letters, name):
    for told in (letters[name].text, letters[name].html):
        assert "The link is good for 72 hours and works once." in told


@pytest.mark.parametrize(("accent", "text"), [("#ffd43b", "#000000"), ("#3b5bdb", "#ffffff")])
def test_its_button_has_the_sites_accent_and_a_label_that_can_be_read_on_it(redis, redis_url, tmp_path, accent, text):
    with site(redis_url, tmp_path, MAGICAUTH_ACCENT=accent) as (app, sink):
        app.test_client().post("/users/magic_link", data={"email": "ada@example.org"})
        button = BeautifulSoup(sink.last("ada@example.org").html, "html.parser").find("a", string="Finish signing up")
        assert f";color:{text};" in button["style"] and f"solid {accent};" in button["style"]
        assert button.parent["bgcolor"] == accent and f"background:{accent}" in button.parent["style"]


@pytest.mark.parametrize("language", ["de", "ar"])
def test_a_letter_speaks_the_language_of_its_reader(redis, redis_url, tmp_path, language):
    with site(redis_url, tmp_path) as (app, sink):
        app.test_client().post(
            "/users/magic_link", data={"email": "ada@example.org"}, headers={"Accept-Language": language}
        )
        html = BeautifulSoup(sink.last("ada@example.org").html, "html.parser").html
        assert (html["lang"], html["dir"]) == (language, "rtl" if language == "ar" else "ltr")
