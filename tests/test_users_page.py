"""`/users`: every account, for administrators, page by page; never a password hash."""

import base64
import uuid

import pytest
from bs4 import BeautifulSoup
from instruments import change_user
from pages import EMAIL, JSON, other_browser, sign_in, sign_up

from magicauth.extensions import db
from magicauth.models import User


@pytest.fixture
def admin(client, mailbox):
    """A browser of an administrator."""
    sign_up(client)
    change_user(client.application, is_admin=True)
    sign_in(client)
    return client


def add_users(app, count):
    """Puts accounts into the database, one after the other; their addresses."""
    emails = [f"user{number:03}@example.org" for number in range(count)]
    with app.app_context():
        for email in emails:
            db.session.add(
                User(canonical_email=email, email=email, name=f"User {email[4:7]}", password_hash="$argon2id$x")
            )
            db.session.flush()
        db.session.commit()
    return [EMAIL, *emails]


def walk(admin, path):
    """The addresses on each of the pages, following `next`."""
    pages = []
    while path:
        answer = admin.get(path, headers=JSON)
        assert answer.status_code == 200
        pages.append([user["email"] for user in answer.get_json()["users"]])
        path = answer.get_json()["next"]
    return pages


def test_strangers_are_sent_to_sign_in_and_others_are_refused(client, mailbox):
    assert client.get("/users").location == "/auth?next=/users"
    assert client.get("/users", headers=JSON).status_code == 401
    sign_up(client)
    refused = client.get("/users", headers=JSON)
    assert (refused.status_code, refused.get_json()) == (403, {"status": "FAIL", "message": "Access denied."})
    assert (client.get("/users").status_code, client.get("/users").mimetype) == (403, "text/html")
    assert client.get("/users?limit=x&after=x", headers=JSON).status_code == 403


def test_an_administrator_sees_everybody_and_no_password_hash(admin):
    emails = add_users(admin.application, 3)
    answer = admin.get("/users", headers=JSON).get_json()
    assert [user["email"] for user in answer["users"]] == emails
    assert answer["next"] is None
    for user in answer["users"]:
        assert list(user) == ["id", "name", "email", "phone", "created_at", "updated_at"]
        assert user["created_at"].endswith("Z") and uuid.UUID(user["id"])
    page = admin.get("/users")
    assert all(email in page.text for email in emails)
    for text in (page.text, admin.get("/users", headers=JSON).text):
        assert "argon2" not in text and "password" not in text.lower().replace("/account/password", "")


def test_pages_follow_one_another_in_the_order_of_creation(admin):
    emails = add_users(admin.application, 120)
    for limit in (1, 7, 50, 119, 120, 121, 200):
        pages = walk(admin, f"/users?limit={limit}")
        assert [email for page in pages for email in page] == emails, limit
        assert [len(page) for page in pages[:-1]] == [limit] * (len(pages) - 1)
        assert 1 <= len(pages[-1]) <= limit
    assert [len(page) for page in walk(admin, "/users")] == [50, 50, 21]


def test_somebody_who_signs_up_meanwhile_neither_hides_nor_doubles_anybody(admin):
    emails = add_users(admin.application, 5)
    first = admin.get("/users?limit=3", headers=JSON).get_json()
    sign_up(other_browser(admin), "late@example.org")
    rest = walk(admin, first["next"])
    assert [user["email"] for user in first["users"]] + [email for page in rest for email in page] == [
        *emails,
        "late@example.org",
    ]


def test_more_is_a_link_on_the_page(admin):
    add_users(admin.application, 60)
    page = BeautifulSoup(admin.get("/users").text, "html.parser")
    more = page.find("a", rel="next")
    assert more is not None
    assert len(page.find_all("tr")) == 51
    second = BeautifulSoup(admin.get(more["href"]).text, "html.parser")
    assert len(second.find_all("tr")) == 12
    assert second.find("a", rel="next") is None


def test_a_limit_is_a_whole_number_from_1_and_at_most_200_are_shown(admin):
    add_users(admin.application, 210)
    for limit in ("201", "1000", "999999999"):
        assert len(admin.get(f"/users?limit={limit}", headers=JSON).get_json()["users"]) == 200, limit
    assert len(admin.get("/users?limit=", headers=JSON).get_json()["users"]) == 50
    for limit in (
        "0",
        "-1",
        "1.5",
        "x",
        "1e2",
        "%2B1",
        "%201",
        "\u0665",
        "0x10",
        "9" * 400,
        "1;DROP TABLE users",
        "NaN",
        "%00",
    ):
        answer = admin.get(f"/users?limit={limit}", headers=JSON)
        assert (answer.status_code, list(answer.get_json()["errors"])) == (400, ["limit"]), limit
        assert admin.get(f"/users?limit={limit}").status_code == 400
    assert admin.get("/users?limit=5&limit=6", headers=JSON).status_code == 400


def test_a_cursor_that_next_never_said_is_400(admin):
    add_users(admin.application, 3)
    following = admin.get("/users?limit=2", headers=JSON).get_json()["next"]
    good = following.partition("after=")[2]
    for cursor in (
        "x",
        good[:-1],
        good + "A",
        good + "AAAA",
        "A" * 21,
        "%FF",
        "é",
        "' OR 1=1 --",
        "A" * 5000,
        "%00",
        "==",
        "%0a",
    ):
        answer = admin.get(f"/users?after={cursor}", headers=JSON)
        assert (answer.status_code, list(answer.get_json()["errors"])) == (400, ["after"]), cursor
        assert admin.get(f"/users?after={cursor}").status_code == 400
    assert admin.get(f"/users?after={good}&after={good}", headers=JSON).status_code == 400


def test_a_cursor_of_nobody_is_a_place_all_the_same(admin):
    emails = add_users(admin.application, 3)
    for value, shown in ((bytes(16), emails), (b"\xff" * 16, [])):
        cursor = base64.urlsafe_b64encode(value).rstrip(b"=").decode()
        assert walk(admin, f"/users?after={cursor}") == [shown]


def test_a_name_is_text_and_never_markup(admin):
    app = admin.application
    with app.app_context():
        name = "<script>alert(1)</script> & \"Eve\" 'x'"
        db.session.add(User(canonical_email="eve@example.org", email="eve@example.org", name=name, phone="+1 555"))
        db.session.commit()
    page = admin.get("/users")
    assert "<script>alert" not in page.text
    assert name in BeautifulSoup(page.text, "html.parser").get_text()
