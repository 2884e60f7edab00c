"""Bad bodies and fields: the contract's answer in both forms, and nothing changed. Never a 500."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from instruments import quiet_app
from pages import EMAIL, JSON, PASSWORD, Browser, Letters, is_signed_in, other_browser, sign_in, sign_up
from world import look, posts

FORM, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data; boundary=parts"
LIMIT = 64 * 1024

examples = settings(
    max_examples=100,
    deadline=None,
    database=None,
    # What the fixtures hold is not changed by an example: that is what these tests are about.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def ada(client: Browser, mailbox: Letters) -> Browser:
    """A browser that is signed in, freshly, and has asked for a code besides: all that a bad request could spoil."""
    sign_up(client)
    client.post("/auth", data={"email": EMAIL})
    mailbox.all()
    return client


@pytest.fixture
def quiet(redis: Any, redis_url: str, tmp_path: Path) -> Iterator[Browser]:
    """A browser on an app without a mail worker, whose thread would draw on the chance that hypothesis counts on."""
    with quiet_app(redis_url, tmp_path) as app:
        yield app.test_client()


def part(name: str, value: bytes, filename: str = "") -> bytes:
    """One part of a multipart body."""
    file = f'; filename="{filename}"' if filename else ""
    return f'--parts\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + value + b"\r\n"


END = b"--parts--\r\n"
UNREADABLE = {
    "half an object": ("application/json", b'{"email": "ada@example.org"'),
    "garbage behind it": ("application/json", b'{"email": "ada@example.org"} x'),
    "two objects": ("application/json", b"{}{}"),
    "single quotes": ("application/json", b"{'email': 'ada@example.org'}"),
    "a comma too many": ("application/json", b'{"email": "ada@example.org",}'),
    "a byte order mark": ("application/json", b"\xef\xbb\xbf{}"),
    "a list": ("application/json", b'[{"email": "ada@example.org"}]'),
    "a string": ("application/json", b'"ada@example.org"'),
    "a number": ("application/json", b"1"),
    "null": ("application/json", b"null"),
    "true": ("application/json", b"true"),
    "a field twice": ("application/json", b'{"email": "ada@example.org", "email": "eve@example.org"}'),
    "a field twice, once escaped": ("application/json", b'{"email": "a@example.org", "\\u0065mail": "b@example.org"}'),
    "a field twice, deep": ("application/json", b'{"x": [{"a": 1, "a": 1}]}'),
    "NaN": ("application/json", b'{"email": NaN}'),
    "Infinity": ("application/json", b'{"x": {"y": [-Infinity]}}'),
    "deep lists": ("application/json", b'{"x": ' + b"[" * 30_000 + b"]" * 30_000 + b"}"),
    "deep objects": ("application/json", b'{"":' * 10_900 + b"1" + b"}" * 10_900),
    "deep and open": ("application/json", b"[" * 60_000),
    "an integer of 5,000 digits": ("application/json", b'{"x": ' + b"9" * 5000 + b"}"),
    "a lone surrogate": ("application/json", b'{"email": "\\ud800"}'),
    "a lone low surrogate": ("application/json", b'{"email": "ada\\udc00@example.org"}'),
    "a lone surrogate as a name": ("application/json", b'{"\\udfff": "x"}'),
    "a lone surrogate, deep": ("application/json", b'{"x": [{"y": "\\ud83d"}]}'),
    "JSON not in UTF-8": ("application/json", '{"email": "adä@example.org"}'.encode("latin-1")),
    "JSON in UTF-16": ("application/json; charset=utf-16", '{"email": "ada@example.org"}'.encode("utf-16")),
    "an encoded surrogate": ("application/json", b'{"email": "\xed\xa0\x80"}'),
    "a raw NUL in a string": ("application/json", b'{"email": "\x00"}'),
    "a raw line break in a string": ("application/json", b'{"email": "ada@example.org\n"}'),
    "a form's field twice": (FORM, b"email=ada@example.org&email=eve@example.org"),
    "a form's field twice and equal": (FORM, b"token=x&name=y&token=x"),
    "a form's field twice, once encoded": (FORM, b"email=a@example.org&%65mail=b@example.org"),
    "a form not in UTF-8": (FORM, b"email=ada\xff@example.org"),
    "a form not in UTF-8, encoded": (FORM, b"email=ada%FF@example.org"),
    "an encoded surrogate in a form": (FORM, b"email=%ED%A0%80"),
    "an overlong slash in a form": (FORM, b"next=%C0%AF"),
    "a part twice": (MULTIPART, part("email", b"a@example.org") + part("email", b"b@example.org") + END),
    "a part and a file": (MULTIPART, part("email", b"a@example.org") + part("email", b"x", "x.txt") + END),
    "a part not in UTF-8": (MULTIPART, part("email", b"ada\xff@example.org") + END),
    "a part cut short": (MULTIPART, part("email", b"ada@example.org")[:-10]),
    "a part without a name": (MULTIPART, b"--parts\r\nContent-Disposition: form-data\r\n\r\na\r\n" + END),
    "a file without a name": (
        MULTIPART,
        b'--parts\r\nContent-Disposition: form-data; filename="x"\r\n\r\na\r\n' + END,
    ),
    "no parts": (MULTIPART, b"email=ada@example.org"),
    "no boundary": ("multipart/form-data", part("email", b"ada@example.org") + END),
    "another boundary": ("multipart/form-data; boundary=x", part("email", b"ada@example.org") + END),
}


def test_a_body_that_cannot_be_read_is_400_everywhere_and_changes_nothing(ada):
    before = look(ada.application)
    for name, (content_type, body) in UNREADABLE.items():
        for path in [*posts(ada.application), "/nowhere"]:
            answer = ada.post(path, data=body, content_type=content_type, headers=JSON)
            assert answer.status_code == 400, (name, path)
            assert answer.get_json() == {"status": "FAIL", "message": "Invalid request."}, (name, path)
            assert not answer.headers.getlist("Set-Cookie"), (name, path)
        assert look(ada.application) == before, name
    assert sign_in(other_browser(ada)).location == "/home"


def test_a_form_that_cannot_be_read_is_answered_with_a_page(ada):
    before = look(ada.application)
    for name, (content_type, body) in UNREADABLE.items():
        if not content_type.startswith("application/json"):
            page = ada.post("/account", data=body, content_type=content_type)
            assert (page.status_code, page.mimetype) == (400, "text/html"), name
    assert look(ada.application) == before


NEITHER_FORM_NOR_JSON = [
    "text/plain",
    "text/plain; charset=utf-8",
    "text/json",
    "text/html",
    "application/jsonx",
    "application/x-json",
    "application/ld+json",
    "application/json, text/plain",
    "application/json\x00",
    "application/xml",
    "application/octet-stream",
    "application/x-www-form-urlencodedx",
    "multipart/mixed; boundary=parts",
    "multipart/form-data, application/json",
    "json",
    "",
    "/",
    "\xff",
]


def test_a_body_that_is_neither_a_form_nor_exactly_json_is_415_everywhere(ada):
    before = look(ada.application)
    body = json.dumps({"email": EMAIL, "password": PASSWORD, "token": "x", "OTP": "000000"}).encode()
    for content_type in NEITHER_FORM_NOR_JSON:
        for path in posts(ada.application):
            answer = ada.post(path, data=body, content_type=content_type, headers=JSON)
            assert (answer.status_code, answer.get_json()["status"]) == (415, "FAIL"), (content_type, path)
        page = ada.post("/auth", data=body, content_type=content_type)
        assert (page.status_code, page.mimetype) == (415, "text/html"), content_type
    assert look(ada.application) == before


def test_json_is_json_whatever_its_parameters(client):
    for content_type in ("application/json; charset=utf-8", "Application/JSON;charset=x", "application/json ; a=b"):
        answer = client.post("/auth", data=b'{"email": "x"}', content_type=content_type)
        assert (answer.status_code, answer.get_json()["message"]) == (400, "Email is invalid."), content_type


def test_json_without_a_body_is_an_empty_object(client):
    answer = client.post("/auth", data=b"", content_type="application/json")
    assert (answer.status_code, answer.get_json()["message"]) == (400, "Email required.")


def test_a_body_over_64_kib_is_413_everywhere_with_and_without_its_length(ada):
    before = look(ada.application)
    big = b"email=" + b"x" * (65 * 1024)
    chunked = {"wsgi.input_terminated": True}
    for content_type in ("application/json", FORM, MULTIPART, "text/plain", ""):
        for path in [*posts(ada.application), "/nowhere"]:
            for sent in ({"data": big}, {"input_stream": io.BytesIO(big), "environ_overrides": chunked}):
                answer = ada.post(path, content_type=content_type, headers=JSON, **sent)
                assert answer.status_code == 413, (content_type, path)
                assert answer.get_json()["message"] == "The request is too large."
        assert ada.post("/auth", data=big, content_type=content_type).status_code == 413
    assert look(ada.application) == before


def test_a_body_of_exactly_64_kib_is_read(client):
    body = b"email=" + b"x" * (LIMIT - 6)
    assert client.post("/auth", data=body, content_type=FORM).status_code == 400
    assert client.post("/auth", data=body + b"x", content_type=FORM).status_code == 413


def test_a_form_of_many_parts_is_413(client):
    body = b"".join(part(f"field{number}", b"") for number in range(200)) + END
    assert client.post("/auth", data=body, content_type=MULTIPART, headers=JSON).status_code == 413


def test_a_body_that_claims_another_length_changes_nothing(ada):
    before = look(ada.application)
    body = b"email=eve@example.org"
    for length, status in (("70000", 413), ("0", 400), ("5", 400), ("-5", 400), ("many", 400), ("1e3", 400)):
        claim = {"CONTENT_LENGTH": length}
        answer = ada.post("/auth", data=body, content_type=FORM, headers=JSON, environ_overrides=claim)
        assert answer.status_code == status, length
    assert look(ada.application) == before


# Path, the other fields, the field, and the message if it is missing, empty or not a string.
FIELDS: list[tuple[str, dict[str, Any], str, str]] = [
    ("/auth", {"password": PASSWORD}, "email", "Email required."),
    ("/users/magic_link", {}, "email", "Email required."),
    ("/auth/reset", {}, "email", "Email required."),
    ("/account/email", {}, "email", "Email required."),
    ("/verify", {}, "OTP", "OTP required."),
    ("/auth/link", {"email": EMAIL}, "token", "Token required."),
    ("/users/signup", {"name": "Ada", "password": PASSWORD}, "token", "Token required."),
    ("/auth/not_me", {}, "token", "Token required."),
    ("/account/email/undo", {}, "token", "Token required."),
]
NOT_STRINGS: list[Any] = [0, 1, -1.5, 10**30, True, False, None, [], [EMAIL], {}, {"email": EMAIL}, [[]], ["000000"]]


def test_a_field_that_is_missing_empty_or_not_a_string_was_not_given(ada):
    before = look(ada.application)
    for path, others, field, message in FIELDS:
        for body in (others, others | {field: ""}):
            answer = ada.post(path, data=body, headers=JSON)
            assert (answer.status_code, answer.get_json()["message"]) == (400, message), path
            page = ada.post(path, data=body)
            assert (page.status_code, page.mimetype) == (400, "text/html"), path
            assert ada.post(path, json=body).get_json()["message"] == message, path
        for value in NOT_STRINGS:
            answer = ada.post(path, json=others | {field: value})
            assert (answer.status_code, answer.get_json()["message"]) == (400, message), (path, value)
        file = ada.post(path, data=others | {field: (io.BytesIO(b"x"), "x.txt")}, headers=JSON)
        assert (file.status_code, file.get_json()["message"]) == (400, message), path
        assert look(ada.application) == before, path


BAD_SIGN_UPS: dict[str, list[Any]] = {
    "name": [None, 5, True, [], {}, ["Ada"], "", "   ", "x" * 101, "A\x00da", "A\nda", "\u202eAda", "\ufdd0"],
    "phone": [5, True, [], {}, "x", "+", "1" * 33, "+44\x00", "+44\n20", "٠١٢٣", "\uff10\uff11", "+44;ext=1"],
    "password": [None, 5, True, [], {}, [PASSWORD], "", "short", "x" * 129, "password1", PASSWORD + "\x00", EMAIL],
}


def test_a_bad_field_of_the_sign_up_form_is_named_and_the_link_stays_good(client, mailbox):
    client.post("/users/magic_link", data={"email": EMAIL})
    good = {"token": mailbox.last().token, "name": "Ada", "password": PASSWORD}
    before = look(client.application)
    for field, bad in BAD_SIGN_UPS.items():
        for value in bad:
            answer = client.post("/users/signup", json=good | {field: value})
            assert (answer.status_code, answer.get_json()["message"]) == (400, "Invalid request."), (field, value)
            assert list(answer.get_json()["errors"]) == [field], (field, value)
            if isinstance(value, str):
                page = client.post("/users/signup", data=good | {field: value})
                assert (page.status_code, f'id="{field}-error"' in page.text) == (400, True), (field, value)
                assert PASSWORD not in page.text
    for field in ("name", "password"):
        without = {name: value for name, value in good.items() if name != field}
        assert list(client.post("/users/signup", json=without).get_json()["errors"]) == [field]
    for email in ("eve@example.org", "ada", "\x00", "a@" * 5000, "ada@example.org\r\n"):
        assert client.post("/users/signup", json=good | {"email": email}).status_code == 403, email
    assert look(client.application) == before
    assert client.post("/users/signup", json=good).status_code == 201


def test_a_password_that_is_no_string_is_400_at_sign_in_and_no_letter_goes_out(client):
    before = look(client.application)
    for value in (5, True, [], {}, [PASSWORD]):
        answer = client.post("/auth", json={"email": EMAIL, "password": value})
        assert (answer.status_code, list(answer.get_json()["errors"])) == (400, ["password"]), value
    assert look(client.application) == before


def test_an_odd_password_is_only_a_wrong_one(client, mailbox):
    sign_up(client)
    browser = other_browser(client)
    for password in ("\x00", PASSWORD + "\x00", "x" * 60_000, "\u202e", "\U0001f600", " " + PASSWORD, PASSWORD + "\n"):
        answer = browser.post("/auth", json={"email": EMAIL, "password": password})
        assert (answer.status_code, answer.get_json()["message"]) == (401, "Email or password is incorrect."), password
        assert not answer.headers.getlist("Set-Cookie")


def test_an_odd_code_is_only_a_wrong_one(make_app):
    many = "100 per hour"
    client = make_app(MAGICAUTH_CODE_ATTEMPTS=20, MAGICAUTH_LIMIT_CODES_PER_ACCOUNT=many).test_client()
    sign_up(client)
    browser = other_browser(client)
    browser.post("/auth", data={"email": EMAIL})
    code = Letters(client.application).last().code
    arabic = "".join(chr(0x660 + int(digit)) for digit in code)
    full_width = "".join(chr(0xFF10 + int(digit)) for digit in code)
    odd = [
        "x",
        "1" * 10_000,
        "\x00",
        arabic,
        full_width,
        f"{code}\n",
        f"{code}\x00",
        f"+{code}",
        f"{code}.0",
        f"{code}0",
    ]
    for left, value in zip(range(19, 0, -1), odd, strict=False):
        answer = browser.post("/verify", json={"OTP": value})
        assert (answer.status_code, answer.get_json()["message"]) == (401, "Incorrect OTP"), value
        assert answer.get_json()["attempts_left"] == left
    assert not is_signed_in(browser)
    assert browser.post("/verify", json={"OTP": code}).get_json()["next"] == "/auth/password"


def test_a_tick_is_json_true_or_what_forms_send(client, mailbox):
    sign_up(client)
    ticks: list[tuple[dict[str, Any], bool]] = [
        *(({"json": {"remember": value}}, value is True) for value in (True, False, "true", "on", 1, [], {}, None)),
        *(
            ({"data": {"remember": value}}, value in ("on", "1", "true"))
            for value in ("on", "1", "true", "off", "", "0")
        ),
    ]
    for sent, remembered in ticks:
        browser = other_browser(client)
        fields = {"email": EMAIL, "password": PASSWORD, **next(iter(sent.values()))}
        browser.post("/auth", **dict.fromkeys(sent, fields))
        answer = browser.post("/verify", data={"OTP": mailbox.last().code})
        session = next(line for line in answer.headers.getlist("Set-Cookie") if line.startswith("magicauth="))
        assert ("Max-Age" in session) == remembered, sent


@examples
@given(body=st.binary(max_size=200), content_type=st.sampled_from(["application/json", FORM, MULTIPART, "text/plain"]))
def test_any_bytes_get_an_answer(quiet, body, content_type):
    for path in ("/auth/link", "/users/signup", "/verify"):
        answer = quiet.post(path, data=body, content_type=content_type, headers=JSON)
        assert answer.status_code in (400, 403, 404, 415)
        assert answer.get_json()["status"] == "FAIL"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
names = st.sampled_from(["token", "email", "name", "password", "phone", "OTP", "next", "remember", "old_password"])


@examples
@given(fields=st.dictionaries(names | st.text(), values, max_size=6))
def test_any_json_gets_an_answer(quiet, fields):
    for path in ("/auth/link", "/users/signup", "/verify", "/logout"):
        answer = quiet.post(path, data=json.dumps(fields), content_type="application/json")
        assert answer.status_code in (400, 401, 403, 404)
        assert answer.get_json()["status"] == "FAIL"


@examples
@given(fields=st.lists(st.tuples(names | st.text(), st.text()), max_size=6))
def test_any_form_is_read_as_it_was_sent_or_is_400(quiet, fields):
    answer = quiet.post("/auth/link", data=urlencode(fields), content_type=FORM, headers=JSON)
    if len({name for name, _ in fields}) < len(fields):
        assert (answer.status_code, answer.get_json()["message"]) == (400, "Invalid request.")
    else:
        has_token = dict(fields).get("token", "") != ""
        assert answer.get_json()["message"] == ("Access denied." if has_token else "Token required.")
