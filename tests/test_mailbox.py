"""`/dev/mailbox`: every letter of development, on this machine only; production has no such page."""

import re
import socket
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from conftest import wait_for
from pages import EMAIL, JSON, PASSWORD, other_browser, sign_in, sign_up, sign_up_by_mail
from production import production


def messages(client):
    """What programs see of the mailbox."""
    return client.get("/dev/mailbox", headers=JSON).get_json()["messages"]


def test_an_empty_mailbox_is_a_page_and_a_list(client):
    assert "No emails yet" in client.get("/dev/mailbox").text
    answer = client.get("/dev/mailbox", headers=JSON).get_json()
    assert answer == {"status": "SUCCESS", "message": answer["message"], "messages": []}


def test_programs_see_what_each_letter_holds_the_newest_first(client, mailbox):
    sign_up_by_mail(client)
    sign_in(other_browser(client))
    mailbox.all()
    newest_first = messages(client)
    assert len(newest_first) >= 2
    for message in newest_first:
        assert list(message) == ["to", "subject", "text", "html", "links", "code", "sent_at"]
        assert message["to"] == EMAIL
        assert all(re.match(r"http://localhost/\S+$", link) for link in message["links"])
        assert message["html"].startswith("<!doctype html>") and "<html" not in message["text"]
        sent_at = datetime.fromisoformat(message["sent_at"])
        assert message["sent_at"].endswith("Z")
        assert timedelta(0) <= datetime.now(UTC) - sent_at < timedelta(minutes=5)
    sent = [message["sent_at"] for message in newest_first]
    assert sent == sorted(sent, reverse=True)
    by_subject = {message["subject"]: message for message in newest_first}
    with_link = by_subject["Finish signing up for magicauth"]
    assert with_link["code"] is None
    assert with_link["links"][0].startswith("http://localhost/users/signup?token=")
    (with_code,) = (message for subject, message in by_subject.items() if subject.endswith("is your magicauth code"))
    assert re.fullmatch(r"[0-9]{6}", with_code["code"])
    assert with_code["subject"] == f"{with_code['code'][:3]} {with_code['code'][3:]} is your magicauth code"
    assert with_code["links"][0].startswith("http://localhost/auth/link?token=")


@pytest.mark.parametrize("digits", [6, 7, 8, 9, 10])
def test_a_code_of_any_length_is_bare_digits(make_app, digits):
    client = make_app(MAGICAUTH_CODE_DIGITS=digits, MAGICAUTH_PASSWORDS="off").test_client()
    sign_up(client, password="")
    assert sign_in(other_browser(client)).location == "/home"
    codes = [message["code"] for message in messages(client) if message["code"]]
    assert [len(code) for code in codes] == [digits]


def test_people_see_the_code_large_the_links_and_the_letter_as_it_looks(client, mailbox):
    sign_up(client)
    browser = other_browser(client)
    browser.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    letter = mailbox.last()
    page = BeautifulSoup(client.get("/dev/mailbox").text, "html.parser")
    first = page.find("article")
    assert first is not None
    assert first.find(class_="letter-code").get_text(strip=True) == letter.code
    assert letter.links[0] in [link["href"] for link in first.find_all("a")]
    frame = first.find("iframe")
    assert "allow-scripts" not in frame["sandbox"] and "allow-same-origin" not in frame["sandbox"]
    shown = client.get(frame["src"])
    assert (shown.status_code, shown.mimetype) == (200, "text/html")
    assert "".join(letter.code) in shown.text.replace(" ", "").replace("\u00a0", "").replace("&nbsp;", "")
    policy = shown.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "sandbox" in policy and "allow-scripts" not in policy
    assert "frame-ancestors 'self'" in policy
    assert shown.headers["Cache-Control"] == "no-store"


def test_no_other_machine_sees_it_even_through_a_proxy(make_app, mailbox, client):
    sign_up_by_mail(client)
    name = BeautifulSoup(client.get("/dev/mailbox").text, "html.parser").find("iframe")["src"]
    for path in ("/dev/mailbox", name):
        for address in (
            "192.0.2.1",
            "10.0.0.1",
            "::ffff:192.0.2.1",
            "2001:db8::1",
            "0.0.0.0",
            "",
            "localhost.evil.example",
        ):
            elsewhere = {"environ_overrides": {"REMOTE_ADDR": address}}
            assert client.get(path, **elsewhere).status_code == 404, address
            assert client.get(path, headers=JSON, **elsewhere).get_json() == {"status": "FAIL", "message": "Not found."}
        for address in ("127.0.0.1", "127.0.0.7", "::1", "::ffff:127.0.0.1"):
            assert client.get(path, environ_overrides={"REMOTE_ADDR": address}).status_code == 200, address
    behind = make_app(MAGICAUTH_TRUSTED_PROXIES=1).test_client()
    assert behind.get("/dev/mailbox").status_code == 200
    assert behind.get("/dev/mailbox", headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 404
    spoofed = {"headers": {"X-Forwarded-For": "127.0.0.1"}, "environ_overrides": {"REMOTE_ADDR": "192.0.2.1"}}
    assert behind.get("/dev/mailbox", **spoofed).status_code == 404


def test_no_other_site_sees_it(client):
    assert client.get("/dev/mailbox", headers={"Host": "evil.example"}).status_code == 400
    answer = client.get("/dev/mailbox", headers={"Origin": "https://evil.example", **JSON})
    assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_production_has_no_such_page(make_new_app, tmp_path):
    client = production(make_new_app, tmp_path).test_client()
    client.post("/users/magic_link", data={"email": EMAIL})
    for path in ("/dev/mailbox", "/dev/mailbox/x", "/dev/mailbox/01795344434388889152-029026b4"):
        assert client.get(path).status_code == 404
        assert client.get(path, headers=JSON).status_code == 404
    assert not (Path(client.application.instance_path) / "mailbox").exists()


def test_a_letter_that_is_not_there_is_404(client, mailbox):
    for name in ("x", "01795344434388889152-029026b4", "..", "%2e%2e%2fsecret_key", "0" * 20 + "-" + "0" * 8, "%00"):
        assert client.get(f"/dev/mailbox/{name}").status_code == 404, name


def test_letters_are_kept_over_a_restart_and_are_the_developers_alone(make_new_app):
    client = make_new_app().test_client()
    sign_up_by_mail(client)
    before = messages(client)
    assert messages(make_new_app().test_client()) == before != []
    assert ((Path(client.application.instance_path) / "mailbox").stat().st_mode & 0o777) == 0o700


def test_only_the_newest_two_hundred_letters_are_kept(client, mailbox):
    sign_up_by_mail(client)
    folder = Path(client.application.instance_path) / "mailbox"
    (letter,) = (path for path in folder.glob("*.eml") if "Finish" in path.read_text())
    for number in range(250):
        (letter.parent / f"{number:020d}-{number:08x}.eml").write_bytes(letter.read_bytes())
    client.post("/users/magic_link", data={"email": "grace@example.org"})
    assert mailbox.last().to == "grace@example.org"
    assert len(list(letter.parent.glob("*.eml"))) == 200


def test_each_letter_is_a_short_line_on_the_console(client, mailbox, capfd):
    client.post("/users/magic_link", data={"email": EMAIL})
    link = mailbox.last().links[0]
    printed = wait_for(lambda: capfd.readouterr().out)
    assert printed == f"Letter to {EMAIL}: Finish signing up for magicauth\n  {link}\n"


def test_a_mail_server_that_is_away_keeps_the_letter_waiting(make_app):
    with closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        app = make_app(MAIL_SERVER="127.0.0.1", MAIL_PORT=bound.getsockname()[1])
        client = app.test_client()
        assert client.post("/users/magic_link", data={"email": EMAIL}).status_code == 303
        wait_for(lambda: client.get("/readyz").get_json()["mail"] == "degraded")
        assert messages(client) == []
