"""Languages: complete catalogues, who reads which one, letters in their owner's, and programs that read English."""

import ast
import gettext
import re
from html import unescape

import flask_babel
import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.mofile import read_mo, write_mo
from babel.messages.plurals import get_plural
from babel.messages.pofile import read_po
from bs4 import BeautifulSoup, Comment, Doctype
from flask import render_template_string
from instruments import change_user
from jinja2 import Environment, nodes
from pages import EMAIL, JSON, PASSWORD, is_signed_in, other_browser, sign_in, sign_up, sign_up_by_mail

from magicauth.languages import CODES, FOLDER, LANGUAGES, RIGHT_TO_LEFT, SOURCE

PACKAGE = FOLDER.parent
TEMPLATES = sorted(path for path in (PACKAGE / "templates").rglob("*") if path.suffix in (".html", ".txt"))
TRANSLATED = [code for code in CODES if code != SOURCE]
KEYWORDS = {"_": None, "N_": None, "gettext": None, "ngettext": (1, 2)}
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
NEW = "ada@new.example.org"
PLACEHOLDER = re.compile(r"%\((\w+)\)s")


# --- catalogues ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def catalogues():
    """Each language's catalogue, as it is written."""

    def read(code):
        with (FOLDER / code / "LC_MESSAGES" / "messages.po").open("rb") as file:
            return read_po(file, locale=code)

    return {code: read(code) for code in TRANSLATED}


def forms(text):
    """A message's or translation's forms: one, or as many as the language has plurals."""
    return (text,) if isinstance(text, str) else tuple(text)


def messages(catalogue: Catalog):
    return [message for message in catalogue if message.id]


def in_language(code, message):
    return gettext.translation("messages", FOLDER, [code], fallback=code == SOURCE).gettext(message)


def test_there_is_a_catalogue_for_each_language_and_no_other():
    assert {path.name for path in FOLDER.iterdir()} == set(TRANSLATED)
    assert set(RIGHT_TO_LEFT) <= set(CODES)
    assert len(dict(LANGUAGES)) == len(LANGUAGES)


def test_every_marked_message_is_in_every_catalogue_and_nothing_else_is(catalogues):
    with (PACKAGE.parent / "babel.cfg").open() as file:
        methods, options = parse_mapping_cfg(file)
    marked = {found[2] for found in extract_from_dir(PACKAGE, methods, options, KEYWORDS)}
    assert len(marked) > 300
    for code, catalogue in catalogues.items():
        written = {message.id for message in messages(catalogue)}
        assert marked - written == set(), f"{code}: run `make translations`, then translate these"
        assert written - marked == set() and not catalogue.obsolete, f"{code}: run `make translations`"


@pytest.mark.parametrize("code", TRANSLATED)
def test_every_message_is_translated_and_none_is_a_guess(catalogues, code):
    plurals = catalogues[code].num_plurals
    for message in messages(catalogues[code]):
        wanted = plurals if isinstance(message.id, tuple) else 1
        assert len(forms(message.string)) == wanted and all(forms(message.string)), message.id
        assert not message.fuzzy, message.id


@pytest.mark.parametrize("code", TRANSLATED)
def test_translations_have_the_placeholders_of_their_message(catalogues, code):
    rule = gettext.c2py(catalogues[code].plural_expr)
    numbers_of = {form: {n for n in range(1000) if rule(n) == form} for form in range(catalogues[code].num_plurals)}
    for message in messages(catalogues[code]):
        wanted = set(PLACEHOLDER.findall(forms(message.id)[0]))
        for form, text in enumerate(forms(message.string)):
            found = set(PLACEHOLDER.findall(text))
            # A form for one number alone may say it in words: "two minutes" is one word in Arabic.
            in_words = {"num"} if isinstance(message.id, tuple) and len(numbers_of[form]) == 1 else set()
            assert wanted - in_words <= found <= wanted, text
            assert "%" not in text % dict.fromkeys(wanted, ""), text


@pytest.mark.parametrize("code", TRANSLATED)
def test_translations_are_plain_text_and_end_as_their_message_does(catalogues, code):
    for message in messages(catalogues[code]):
        for text in forms(message.string):
            assert text == text.strip() and text == unescape(text) and not re.search(r"[<>\n]", text), text
            for marks in (":\uff1a", "?\uff1f؟"):
                assert (forms(message.id)[0][-1] in marks) == (text[-1] in marks), text


@pytest.mark.parametrize("code", TRANSLATED)
def test_catalogues_name_their_language_and_its_plurals(catalogues, code):
    plural = get_plural(code)
    assert str(catalogues[code].locale) == code
    assert (catalogues[code].num_plurals, catalogues[code].plural_expr) == (plural.num_plurals, plural.plural_expr)
    assert "@" not in "".join(value for _, value in catalogues[code].mime_headers)


@pytest.mark.parametrize("code", TRANSLATED)
def test_what_is_compiled_is_what_is_written(catalogues, code):
    with (FOLDER / code / "LC_MESSAGES" / "messages.mo").open("rb") as file:
        compiled = {forms(message.id): forms(message.string) for message in messages(read_mo(file))}
    written = {forms(message.id): forms(message.string) for message in messages(catalogues[code])}
    assert compiled == written, "run `make translations`"


def test_arabic_has_a_form_for_one_two_few_and_many():
    arabic = gettext.translation("messages", FOLDER, ["ar"])
    one, other = (f"The link is good for %(num)s {unit} and works once." for unit in ("hour", "hours"))
    said = {n: arabic.ngettext(one, other, n) % {"num": n} for n in (1, 2, 3, 10, 11, 72, 100, 103)}
    words = {1: "ساعة واحدة", 2: "ساعتين", 3: "3 ساعات", 10: "10 ساعات", 11: "11 ساعة", 72: "72 ساعة"}
    words |= {100: "100 ساعة", 103: "103 ساعات"}
    assert {n: words[n] in text for n, text in said.items()} == dict.fromkeys(said, True)


# --- nothing is left in English --------------------------------------------------------------------------------------

SEEN = ("title", "aria-label", "aria-description", "placeholder", "alt", "data-show", "data-hide", "data-caps")
LETTER = re.compile(r"[^\W\d_]")
# Blocks that stand inside a tag, and an attribute that one of two branches writes.
ATTRIBUTES = re.compile(r"{% block (?:marks|shell) %}.*?{% endblock %}|(?<= )data-[\w-]+=\"{{[^}]*}}\">")


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(PACKAGE / "templates")))
def test_what_people_see_in_a_template_is_marked(path):
    source = path.read_text()
    bare = "".join(text for _, kind, text in Environment().lex(ATTRIBUTES.sub("", source)) if kind == "data")
    assert [text for text in texts_of(bare) if LETTER.search(text)] == []
    assert list(unmarked_in_expressions(Environment().parse(source))) == []


def texts_of(html, but=""):
    """What people see or hear of a page, without the elements that the selector `but` finds."""
    page = BeautifulSoup(html, "html.parser")
    for element in page.select(f"style, script{but}"):
        element.decompose()
    texts = [text for text in page.find_all(string=True) if not isinstance(text, Comment | Doctype)]
    return texts + [element[name] for element in page.find_all(True) for name in SEEN if element.get(name)]


def unmarked_in_expressions(node):
    """Strings inside `{{ }}` and `{% %}` that read like words for people, but for those in `_()` and in comparisons."""
    if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name in KEYWORDS:
        return
    if isinstance(node, nodes.Compare):
        return
    if isinstance(node, nodes.Const) and isinstance(node.value, str) and re.search(r"^[A-Z][a-z]|\w \w", node.value):
        yield node.value
    for child in node.iter_child_nodes():
        yield from unmarked_in_expressions(child)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_a_refusal_or_a_notice_says_is_marked(path):
    tree = ast.parse(path.read_text())
    imports = [
        node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "magicauth.errors"
    ]
    refusals = {alias.name for node in imports for alias in node.names} - {"N_"} | {"notify"}
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and called(call) in refusals:
            said = call.args + [keyword.value for keyword in call.keywords if keyword.arg == "errors"]
            assert [text for argument in said for text in unmarked_strings(argument)] == []


def called(call):
    return getattr(call.func, "id", None) or getattr(call.func, "attr", None)


def unmarked_strings(node):
    if isinstance(node, ast.Call) and called(node) == "N_":
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and LETTER.search(node.value):
        yield node.value
    # The keys of `errors` are names of fields.
    for child in node.values if isinstance(node, ast.Dict) else ast.iter_child_nodes(node):
        yield from unmarked_strings(child)


# Names, and what our words in Arabic say in Latin letters.
LATIN = {"magicauth", "UTC", "JSON", "Caps", "Lock", "Firefox", "Linux", "example", "com", "you"}


def visible(html):
    """The words of a page, but for addresses and names of browsers (`<bdi>`) and of other languages."""
    return " ".join(texts_of(html, but=", bdi, [lang]:not(html)"))


def english(html):
    return set(re.findall(r"[A-Za-z]{2,}", visible(html))) - LATIN


def test_an_arabic_reader_sees_arabic_on_every_page(app, client, mailbox):
    client.environ_base.update(HTTP_ACCEPT_LANGUAGE="ar-EG,ar;q=0.9,en;q=0.5", HTTP_USER_AGENT=FIREFOX)
    seen = {}

    def look(path):
        answer = client.get(path, follow_redirects=True)
        page = BeautifulSoup(answer.text, "html.parser")
        assert (page.html["lang"], page.html["dir"]) == ("ar", "rtl"), path
        assert english(answer.text) == set(), path
        seen[path] = page.h1.get_text()

    def refused(path, status, **form):
        answer = client.post(path, data=form)
        assert (answer.status_code, english(answer.text)) == (status, set()), path

    for path in ("/auth", "/users/magic_link", "/users/magic_link/sent", "/auth/reset", "/nowhere", "/verify"):
        look(path)
    for path in ("/auth/link?token=x", "/users/signup?token=x", "/auth/not_me?token=x", "/auth/link"):
        look(path)
    refused("/auth", 400, email="nobody")
    client.post("/users/magic_link", data={"email": EMAIL})
    signing_up = mailbox.last(EMAIL)
    look(signing_up.link)
    refused("/users/signup", 400, token=signing_up.token, name="", password="short", phone="x")
    client.post("/users/signup", data={"token": signing_up.token, "name": "آدا", "password": PASSWORD})
    for place in ("", "/email", "/password", "/sessions", "/activity", "/export", "/delete"):
        look(f"/account{place}")
    look("/home")
    assert seen["/home"] == "مرحبًا، آدا"
    refused("/account/password", 401, old_password="wrong", password="short")
    refused("/account/delete", 400, email="eve@example.org")
    client.post("/account/email", data={"email": NEW})
    look("/account/email")
    look("/verify")
    refused("/verify", 401, OTP="".join(str(9 - int(digit)) for digit in mailbox.last(NEW).code))
    refused("/verify/resend", 429)
    client.post("/logout")
    look("/auth")
    refused("/auth", 401, email=EMAIL, password="wrong")
    client.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    look("/verify")
    look(mailbox.last(EMAIL).link)
    client.post("/verify", data={"OTP": mailbox.last(EMAIL).code})
    change_user(app, is_admin=True)
    for path in ("/users", "/dev/mailbox", "/account/activity"):
        seen[path] = english(re.sub(r"<article.*</article>", "", client.get(path).text, flags=re.DOTALL))
        assert seen[path] == set()


# --- whose language --------------------------------------------------------------------------------------------------


def language_of(answer):
    html = BeautifulSoup(answer.text, "html.parser").html
    assert html["dir"] == ("rtl" if html["lang"] in RIGHT_TO_LEFT else "ltr")
    return html["lang"]


def test_a_browser_is_answered_in_the_language_it_likes_best(client):
    wanted = {
        "de": "de",
        "de-AT": "de",
        "DE_at": "de",
        "ja-JP": "ja",
        "ar-EG": "ar",
        "ar-EG,en;q=0.5": "ar",
        "zh-Hant-TW, fr-CA;q=0.8, en;q=0.7": "fr",
        "en;q=0.2, es-419;q=0.9, de;q=0.3": "es",
        "de;q=0, fr;q=0.1": "fr",
        "pt, *;q=0.5": "en",
        "*, de;q=0.5": "en",
        "pt": "en",
        "": "en",
        "*": "en",
        "de;q=0": "en",
        "deutsch": "en",
        "de;q=lots, fr": "fr",
        ",,;;q=,=;-,_": "en",
        "q=1;de": "en",
        "../../ar": "en",
        "日本語": "en",
        "x" * 5000: "en",
        "de-AT," + "x-y;q=0.1," * 500: "de",
    }
    got = {header: language_of(client.get("/auth", headers={"Accept-Language": header})) for header in wanted}
    assert got == wanted
    assert language_of(client.get("/auth")) == "en"


def test_a_cache_is_told_what_the_language_of_a_page_depends_on(client):
    assert {"Accept-Language", "Cookie"} <= set(client.get("/auth").vary)
    assert "Accept-Language" not in client.get("/healthz", headers=JSON).vary


def test_the_picker_offers_every_language_by_its_own_name(client):
    page = BeautifulSoup(client.get("/auth", headers={"Accept-Language": "ja"}).text, "html.parser")
    form = page.find("form", {"action": "/language"})
    offered = {button["value"]: (button["lang"], button.get_text()) for button in form.find_all("button")}
    assert offered == {code: (code, name) for code, name in LANGUAGES}
    assert form.find("button", {"aria-current": "true"})["value"] == "ja"
    assert page.find("details", "languages").summary.get_text().split()[-1] == "日本語"


def test_what_was_picked_stays_and_goes_before_what_the_browser_asks_for(client):
    picked = client.post("/language", data={"language": "ar", "back": "/users/magic_link"})
    assert (picked.status_code, picked.location) == (303, "/users/magic_link")
    cookie = client.get_cookie("magicauth-language")
    assert cookie.http_only and cookie.same_site == "Lax" and cookie.max_age > 300 * 86_400
    assert language_of(client.get("/auth", headers={"Accept-Language": "de"})) == "ar"
    assert language_of(other_browser(client).get("/auth", headers={"Accept-Language": "de"})) == "de"
    client.post("/language", data={"language": "en"})
    assert language_of(client.get("/auth", headers={"Accept-Language": "de"})) == "en"


@pytest.mark.parametrize("language", ["", "xx", "DE", "de-AT", "../de"])
def test_only_a_language_that_there_is_can_be_picked(client, language):
    assert client.post("/language", data={"language": language}).location == "/"
    assert client.get_cookie("magicauth-language") is None
    client.set_cookie("magicauth-language", language)
    assert language_of(client.get("/auth", headers={"Accept-Language": "fr"})) == "fr"


def test_the_accounts_setting_goes_before_everything_in_each_of_its_browsers(client):
    sign_up(client)
    client.post("/language", data={"language": "de"})
    client.post("/account", data={"name": "Ada", "language": "ja"})
    assert language_of(client.get("/home", headers={"Accept-Language": "fr"})) == "ja"
    elsewhere = other_browser(client)
    sign_in(elsewhere)
    assert language_of(elsewhere.get("/home", headers={"Accept-Language": "fr"})) == "ja"
    assert language_of(other_browser(client).get("/auth", headers={"Accept-Language": "fr"})) == "fr"


def test_to_pick_what_the_account_has_chosen_already_is_no_change(client):
    sign_up(client)
    client.post("/account", data={"name": "Ada Lovelace", "language": "ja"})
    for _ in range(2):
        client.post("/language", data={"language": "ja"})
    actions = [event["action"] for event in client.get("/account/activity", headers=JSON).get_json()["events"]]
    assert actions == ["user:profile:changed", "user:signed_up"]


def test_automatic_follows_the_browser_again(client):
    sign_up(client)
    client.post("/account", data={"name": "Ada", "language": "ja"})
    client.post("/account", data={"name": "Ada", "language": ""})
    assert language_of(client.get("/account", headers={"Accept-Language": "fr"})) == "fr"
    select = BeautifulSoup(client.get("/account").text, "html.parser").find("select", {"id": "language"})
    assert [option["value"] for option in select.find_all("option")] == ["", *CODES]


def test_picking_changes_the_setting_of_an_account_that_has_one(client):
    sign_up(client)
    client.post("/account", data={"name": "Ada", "language": "ja"})
    client.post("/language", data={"language": "es", "back": "/account"})
    assert language_of(client.get("/account")) == "es"
    assert client.get("/account/export.json").get_json()["user"]["language"] == "es"


def test_dates_are_written_as_the_language_writes_them(client):
    sign_up(client)
    shown = {}
    for code in CODES:
        page = client.get("/home", headers={"Accept-Language": code}).text
        shown[code] = BeautifulSoup(page, "html.parser").find("time").get_text(strip=True)
    assert len(set(shown.values())) == len(CODES), shown
    assert re.fullmatch(r"\d\d\.\d\d\.\d{4}, \d\d:\d\d UTC", shown["de"])
    assert re.fullmatch(r"\d{4}/\d\d/\d\d \d{1,2}:\d\d UTC", shown["ja"])


@pytest.mark.parametrize("code", TRANSLATED)
def test_refusals_and_error_pages_are_translated(client, code):
    client.environ_base["HTTP_ACCEPT_LANGUAGE"] = code
    assert in_language(code, "Page not found") in unescape(client.get("/nowhere").text)
    wrong = client.post("/auth", data={"email": EMAIL, "password": "wrong"})
    assert wrong.status_code == 401
    assert in_language(code, "Email or password is incorrect.") in visible(wrong.text)
    foreign = client.post("/auth", data={"email": EMAIL}, headers={"Sec-Fetch-Site": "cross-site"})
    assert (foreign.status_code, language_of(foreign)) == (403, code)
    assert in_language(code, "Cross-site request refused.") in visible(foreign.text)


def test_programs_read_english_whatever_language_they_ask_for(client):
    requests = [
        ("GET", "/auth", None),
        ("GET", "/nowhere", None),
        ("PATCH", "/auth", None),
        ("GET", "/home", None),
        ("POST", "/auth", {}),
        ("POST", "/auth", {"email": "nobody"}),
        ("POST", "/auth", {"email": EMAIL, "password": "wrong"}),
        ("POST", "/verify", {"OTP": ""}),
        ("POST", "/verify", {"OTP": "123456"}),
        ("POST", "/auth/link", {}),
        ("POST", "/users/signup", {"token": "x"}),
        ("POST", "/users/magic_link", {"email": EMAIL}),
        ("POST", "/logout", {}),
    ]
    for method, path, body in requests:
        answers = []
        for code in (SOURCE, "de", "ar"):
            browser = other_browser(client)
            browser.set_cookie("magicauth-language", code)
            headers = JSON | {"Accept-Language": code}
            answer = browser.open(path, method=method, json=body, headers=headers)
            answers.append((answer.status_code, answer.get_json()))
        assert answers[0] == answers[1] == answers[2], (method, path)
        assert answers[0][1]["message"].isascii()


def test_a_program_signed_in_to_a_german_account_reads_english(client):
    sign_up(client)
    client.post("/account", data={"name": "Ada", "language": "de"})
    saved = client.post("/account", json={"name": "Ada", "language": "de"})
    assert saved.get_json()["message"] == "Saved."
    wrong = client.post("/account/delete", json={"email": "eve@example.org"})
    assert wrong.get_json()["errors"] == {"email": ["Type the address of this account."]}


# --- letters ---------------------------------------------------------------------------------------------------------


def subjects(code):
    """What letters' subjects look like in that language: a pattern."""
    sources = [path.read_text() for path in TEMPLATES if path.name.endswith(".subject.txt")]
    translated = [in_language(code, re.search(r'_\("([^"]+)"', source)[1]) for source in sources]
    return "|".join(".+".join(re.escape(part) for part in re.split(r"%\(\w+\)s", text)) for text in translated)


def check_letter(letter, code):
    """A letter to a reader of that language, with its code or link as plain as in English."""
    assert re.fullmatch(subjects(code), letter.subject.replace("\u00a0", " ")), letter.subject
    html = BeautifulSoup(letter.html, "html.parser")
    for isolated in html.find_all("bdi"):
        isolated.unwrap()
    html.smooth()
    assert (html.html["lang"], html.html["dir"]) == (code, "rtl" if code in RIGHT_TO_LEFT else "ltr")
    ending = in_language(code, "Sent by %(site)s to %(email)s.") % {"site": "magicauth", "email": letter.to}
    said = " ".join(html.get_text(" ").split())
    assert ending in said and ending in " ".join(letter.text.split())
    hrefs = [link["href"] for link in html.find_all("a")]
    assert all(link in hrefs for link in letter.links)
    if letter.code:
        grouped = re.compile(r"[ \u00a0]?".join(letter.code))
        assert grouped.search(letter.subject) and grouped.search(letter.text) and grouped.search(html.get_text())
    if code == "ar":
        addresses = set(re.findall(r"[A-Za-z]{2,}", f"{' '.join(letter.links)} {letter.to} {NEW} http localhost"))
        text = re.sub(r"https?://\S+", "", letter.text)
        assert set(re.findall(r"[A-Za-z]{2,}", text)) - addresses - LATIN == set()


@pytest.mark.parametrize("code", CODES)
def test_letters_are_in_the_readers_language_with_their_code_and_link(client, mailbox, code):
    client.environ_base.update(HTTP_ACCEPT_LANGUAGE=code, HTTP_USER_AGENT=FIREFOX)
    client.post("/auth", data={"email": "nobody@example.org"})
    sign_up_by_mail(client)
    client.post("/users/magic_link", data={"email": EMAIL})
    client.post("/account/password", data={"old_password": PASSWORD, "password": "seven other horses graze"})
    client.post("/account/email", data={"email": NEW})
    client.post("/verify", data={"OTP": mailbox.last(NEW).code})
    client.post("/auth/reset", data={"email": NEW})
    elsewhere = other_browser(client)
    elsewhere.environ_base.update(HTTP_ACCEPT_LANGUAGE=code, HTTP_USER_AGENT=FIREFOX)
    sign_in(elsewhere, NEW, "seven other horses graze")
    elsewhere.post("/account/sessions/end_others")
    elsewhere.post("/account/delete", data={"email": NEW})
    letters = mailbox.all()
    # No account; sign up; has an account; password changed; new address; address changed; reset; sign in; new browser;
    # sessions ended; deleted.
    assert len({letter.subject for letter in letters}) == 11, [letter.subject for letter in letters]
    assert sum(bool(letter.code) for letter in letters) == 3
    for letter in letters:
        check_letter(letter, code)


def test_a_letter_is_in_its_owners_language_and_the_page_in_the_language_of_whoever_asked(client, mailbox):
    sign_up(client)
    client.post("/account", data={"name": "Ada", "language": "ja"})
    stranger = other_browser(client)
    stranger.environ_base["HTTP_ACCEPT_LANGUAGE"] = "de"
    for path, form in (
        ("/auth", {"email": EMAIL}),
        ("/auth/reset", {"email": EMAIL}),
        ("/users/magic_link", {"email": EMAIL}),
    ):
        assert language_of(stranger.post(path, data=form, follow_redirects=True)) == "de"
        check_letter(mailbox.last(EMAIL), "ja")


# --- two walks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("header", "code"), [("de-AT,de;q=0.9,en;q=0.5", "de"), ("ar-EG,ar;q=0.9,en;q=0.5", "ar")])
def test_somebody_signs_up_and_in_without_meeting_english(client, mailbox, header, code):
    client.environ_base.update(HTTP_ACCEPT_LANGUAGE=header, HTTP_USER_AGENT=FIREFOX)

    def see(answer, *said):
        assert (answer.status_code, language_of(answer)) == (200, code)
        shown = " ".join(visible(answer.text).split())
        for message in said:
            assert in_language(code, message) in shown, message

    see(client.get("/users/magic_link"), "Create your account", "Email", "Email me a link", "Have an account?")
    sent = client.post("/users/magic_link", data={"email": EMAIL}, follow_redirects=True)
    see(sent, "Check your inbox", "Try another address")
    letter = mailbox.last(EMAIL)
    assert letter.subject == in_language(code, "Finish signing up for %(site)s") % {"site": "magicauth"}
    see(client.get(letter.link), "Almost there", "Name", "Password", "Phone", "(optional)", "Create account")
    form = {"token": letter.token, "name": "Ada", "password": PASSWORD}
    home = client.post("/users/signup", data=form, follow_redirects=True)
    see(home, "Member since", "Your account", "Sign out")
    assert in_language(code, "Hello, %(name)s") % {"name": "Ada"} in home.text
    see(client.post("/logout", follow_redirects=True), "You are signed out.", "Sign in", "Keep me signed in")
    form = {"email": EMAIL, "password": PASSWORD}
    see(
        client.post("/auth", data=form, follow_redirects=True), "Check your inbox", "Code", "Continue", "Wrong address?"
    )
    code_letter = mailbox.last(EMAIL)
    see(client.get(code_letter.link), "Sign in", "One press, and you are there.", "Continue")
    see(client.post("/verify", data={"OTP": code_letter.code}, follow_redirects=True), "Member since")
    assert is_signed_in(client)
    on = in_language(code, "%(browser)s on %(system)s") % {"browser": "Firefox", "system": "Linux"}
    sessions = client.get("/account/sessions")
    see(sessions, "Where you are signed in", "This browser")
    assert on in sessions.text
    see(client.get("/account/activity"), "Activity", "Account made", "Signed in", "Signed out")


# --- words of a site's own -------------------------------------------------------------------------------------------


def test_a_sites_own_catalogues_go_before_ours_which_say_the_rest(make_app, tmp_path):
    words = {"de": {"Sign in": "Eintreten", "Spring": "Frühling"}, "en": {"Continue": "Go on"}}
    for code, messages in words.items():
        catalogue = Catalog(locale=code)
        for message, translation in messages.items():
            catalogue.add(message, translation)
        (tmp_path / code / "LC_MESSAGES").mkdir(parents=True)
        with (tmp_path / code / "LC_MESSAGES" / "messages.mo").open("wb") as file:
            write_mo(file, catalogue)
    app = make_app(BABEL_TRANSLATION_DIRECTORIES=str(tmp_path))

    @app.get("/spring")
    def spring():
        return {"words": [render_template_string("{{ _('Spring') }}"), flask_babel.gettext("Spring")]}

    german = app.test_client().get("/auth", headers={"Accept-Language": "de"}).text
    assert "<h1>Eintreten</h1>" in german and "Weiter</button>" in german
    assert "Go on</button>" in app.test_client().get("/auth").text
    answer = app.test_client().get("/spring", headers={"Accept-Language": "de"})
    assert answer.get_json() == {"words": ["Frühling", "Frühling"]}
    assert "<h1>Anmelden</h1>" in make_app().test_client().get("/auth", headers={"Accept-Language": "de"}).text
