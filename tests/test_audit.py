"""The audit: what happened to accounts, for operators and owners, and never a secret."""

import hashlib
import json
import logging

import pytest
from instruments import later, quiet_app, session_id
from pages import EMAIL, JSON, PASSWORD, Letters, is_signed_in, other_browser, sign_in, sign_up
from world import database_dump

from magicauth import audit, logs
from magicauth.audit import signal
from magicauth.extensions import db
from magicauth.models import Action, User

NEW_EMAIL = "ada@new.example.org"
NEW = "seven other horses graze"
ODD = {
    "before computers": ["--since", "1969-12-31"],
    "before all others": ["--since", "0001-01-01"],
    "after all others": ["--since", "9999-12-31"],
    "no text": ["--result", b"\xff".decode(errors="surrogateescape")],
    "many": ["--limit", "1000000000"],
}


def flask(app, *arguments):
    """Runs a command, and returns what it says: that of the post, which tells of each letter, is waited for."""
    Letters(app).all()
    result = app.test_cli_runner().invoke(args=list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


def events(app, *filters):
    """What `flask audit` lists, the oldest first."""
    return json.loads(flask(app, "audit", "--json", *filters))[::-1]


def whole_life(app):
    """Everything that can happen to an account. Returns every secret that came up on the way."""
    ada, thief, mailbox = app.test_client(), app.test_client(), Letters(app)
    secrets = {PASSWORD, NEW, "a wrong password", "a weak one: password1"}

    def note(*browsers):
        secrets.update(session_id(browser) for browser in browsers)
        for letter in mailbox.all():
            secrets.update(filter(None, (letter.code, *(link.partition("token=")[2] for link in letter.links))))

    sign_up(ada)
    note(ada)
    thief.post("/auth", data={"email": EMAIL, "password": "a wrong password"})
    thief.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    for _ in range(5):
        thief.post("/verify", data={"OTP": "999 999"})
    note(thief)
    sign_in(thief)
    thief.post("/auth/fresh/code")
    note(thief)
    thief.post("/auth/fresh", data={"OTP": mailbox.last(EMAIL).code})
    note(thief)
    ada.post("/account", data={"name": "Ada", "phone": "+1 555"})
    ada.post("/auth/fresh", data={"password": PASSWORD})
    ada.post("/account/password", data={"old_password": "a wrong password", "password": NEW})
    ada.post("/account/password", data={"old_password": PASSWORD, "password": "a weak one: password1"})
    ada.post("/account/password", data={"old_password": PASSWORD, "password": NEW})
    note(ada)
    handle = next(one["session"] for one in ada.get("/account/sessions", headers=JSON).get_json()["sessions"])
    ada.post("/account/sessions/end", data={"session": handle[::-1]})
    ada.post("/account/sessions/end_others")
    ada.get("/account/export.json")
    ada.post("/account/email", data={"email": NEW_EMAIL})
    ada.post("/verify", data={"OTP": mailbox.last(NEW_EMAIL).code})
    note(ada)
    undo = next(letter for letter in mailbox.all(EMAIL) if "undo" in letter.links[0])
    app.test_client().post(undo.link)
    other = app.test_client()
    other.post("/auth/reset", data={"email": EMAIL})
    note(other)
    other.post("/auth/link", data={"token": mailbox.last(EMAIL).token})
    note(other)
    other.post("/auth/reset/password", data={"password": PASSWORD})
    note(other)
    warning = next(letter for letter in mailbox.all(EMAIL) if "not_me" in letter.links[0])
    app.test_client().post(warning.link)
    sign_in(other)
    secrets.add(other.get_cookie("magicauth-device").value)
    note(other)
    other.post("/logout")
    return secrets - {""}


def test_every_act_leaves_its_trace(app):
    whole_life(app)
    actions = {event["action"] for event in events(app, "--limit", "1000")}
    by_operators = {action.value for action in Action if action.value.startswith("operator:")}
    assert actions == {action.value for action in Action} - by_operators - {"user:deleted", "user:session:ended"}
    other = app.test_client()
    sign_in(other)
    (handle,) = [one["session"] for one in other.get("/account/sessions", headers=JSON).get_json()["sessions"]]
    other.post("/account/sessions/end", data={"session": handle})
    sign_in(other)
    other.post("/account/delete", data={"email": EMAIL})
    for command in ("invite", "create", "disable", "enable", "promote", "demote"):
        flask(app, "users", command, "eve@example.org")
    actions = {event["action"] for event in events(app, "--limit", "1000")}
    assert actions == {action.value for action in Action}


def test_no_code_token_password_or_session_id_is_in_the_database(app):
    secrets = whole_life(app)
    assert len(secrets) > 20
    text = database_dump(app)
    assert EMAIL in text and "user:not_me" in text
    # A code is six digits, which some timestamp or hash may hold by chance: it is looked for as a value of its own.
    assert not [secret for secret in secrets if (f"'{secret}'" if secret.isdigit() else secret) in text]


def test_no_secret_and_no_address_is_in_the_logs(app):
    """Log lines are JSON with the request they belong to; an address stands as its keyed hash."""
    lines = []

    class Keep(logging.Handler):
        def emit(self, record):
            lines.append(self.format(record))

    handler, loggers = Keep(), [logging.getLogger(name) for name in ("magicauth", "dramatiq", "werkzeug", "flask.app")]
    handler.setFormatter(logs.JsonFormatter())
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG if logger.name != "dramatiq" else logging.WARNING)
    try:
        secrets = whole_life(app)
        # As something on the way may rewrite a link.
        for mark in ("%3F", "%253f", "%2525253F", "%0A%3F"):
            app.test_client().get(f"/users/signup{mark}token=a-live-one")
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
    text = "\n".join(lines)
    assert not [secret for secret in (*secrets, "a-live-one") if secret in text]
    assert EMAIL not in text and NEW_EMAIL not in text and "token=" not in text
    told = [json.loads(line) for line in lines]
    changed = next(line for line in told if line["message"] == "user:password:changed")
    assert {"at", "level", "logger", "message", "result", "subject", "request_id", "method", "path"} <= set(changed)
    assert changed["path"] == "/account/password"
    with app.app_context():
        assert changed["subject"] == audit.subject(EMAIL)


def test_a_log_line_is_ascii_whatever_was_asked_for(ada, caplog):
    """And says who was refused, and as which request: the access log has the address."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(logs.JsonFormatter().format(record))
    caplog.set_level(logging.INFO, "magicauth")
    logging.getLogger("magicauth").addHandler(handler)
    try:
        answer = ada.get("/users/\x9b31m\u202eabc\x7f")
        ada.get("/users")
    finally:
        logging.getLogger("magicauth").removeHandler(handler)
    assert answer.status_code == 404
    assert all(line.isascii() and line.isprintable() for line in lines)
    refused = next(json.loads(line) for line in lines if "not an administrator" in line)
    assert refused["user"] == ada.get("/home", headers=JSON).get_json()["user"]["id"].replace("-", "")


def test_a_row_says_who_from_where_with_what_result_and_when(app, client):
    sign_up(client)
    headers = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
    stranger = other_browser(client)
    stranger.post(
        "/auth",
        data={"email": EMAIL, "password": "x"},
        headers=headers,
        environ_overrides={"REMOTE_ADDR": "203.0.113.9"},
    )
    made, refused = events(app)
    assert set(made) == {"at", "action", "result", "user", "subject", "address", "browser"}
    assert (made["action"], made["result"]) == ("user:signed_up", "ok")
    assert (refused["action"], refused["result"]) == ("user:sign_in:refused", "wrong password")
    assert (refused["address"], refused["browser"]) == ("203.0.113.9", "Firefox on Linux")
    assert refused["user"] == made["user"] and refused["subject"] == made["subject"]
    assert made["at"] < refused["at"] and refused["at"].endswith("Z")


def test_a_stranger_leaves_the_same_trace_without_a_user(app, client):
    client.post("/auth", data={"email": "nobody@example.org", "password": "x"})
    client.post("/auth", data={"email": "nobody@example.org"})
    client.post("/verify", data={"OTP": "x"})
    assert [(event["result"], event["user"]) for event in events(app)] == [("wrong password", ""), ("wrong code", "")]


def test_an_address_stands_as_a_keyed_hash(make_app):
    app = make_app(SECRET_KEY="one key for all that is hashed here")
    sign_up(app.test_client())
    (event,) = events(app)
    assert EMAIL not in json.dumps(event)
    unkeyed = {getattr(hashlib, name)(EMAIL.encode()).hexdigest()[:16] for name in ("md5", "sha1", "sha256")}
    assert not [digest for digest in unkeyed if digest in event["subject"]]
    with make_app(SECRET_KEY="and another key for the other site").app_context():
        assert audit.subject(EMAIL) != event["subject"]


# --- for operators ---------------------------------------------------------------------------------------------------


def test_the_command_filters(app, client, redis):
    sign_up(client)
    sign_up(other_browser(client), "eve@example.org", name="Eve")
    client.post("/auth", data={"email": EMAIL, "password": "x"})
    client.post("/account", data={"name": "Ada"})
    assert [event["action"] for event in events(app, "--user", "eve@example.org")] == ["user:signed_up"]
    mine = ["user:signed_up", "user:sign_in:refused", "user:profile:changed"]
    assert [event["action"] for event in events(app, "--user", EMAIL.upper())] == mine
    assert len(events(app, "--action", "user:signed_up")) == 2
    assert [event["action"] for event in events(app, "--result", "wrong password")] == ["user:sign_in:refused"]
    assert [event["action"] for event in events(app, "--limit", "1")] == ["user:profile:changed"]
    with later(redis, 1000):
        client.post("/account", data={"name": "Ada King"})
    since = events(app)[-1]["at"][:19]
    assert len(events(app, "--since", since)) == 1
    assert events(app, "--user", EMAIL, "--action", "user:deleted") == []


def test_the_table_is_the_newest_first_under_a_heading(app, client):
    sign_up(client)
    client.post("/account", data={"name": "Ada"})
    heading, newest, oldest = flask(app, "audit").splitlines()
    assert heading.split() == ["AT", "ACTION", "RESULT", "USER", "SUBJECT", "ADDRESS", "BROWSER"]
    assert "user:profile:changed" in newest and "user:signed_up" in oldest
    assert heading.index("ACTION") == newest.index("user:profile")


def test_what_happened_under_an_earlier_address_or_key_belongs_to_the_account(make_app):
    old, new = "one key for all that is hashed here", "and another key for the other site"
    before = make_app(SECRET_KEY=old)
    ada, mailbox = before.test_client(), Letters(before)
    sign_up(ada)
    ada.post("/account/email", data={"email": NEW_EMAIL})
    ada.post("/verify", data={"OTP": mailbox.last(NEW_EMAIL).code})
    actions = ["user:signed_up", "user:email:changed"]
    assert [event["action"] for event in events(before, "--user", NEW_EMAIL)] == actions
    after = make_app(SECRET_KEY=new, SECRET_KEY_FALLBACKS=old)
    assert [event["action"] for event in events(after, "--user", NEW_EMAIL)] == actions


@pytest.mark.parametrize(
    "arguments", [["--limit", "0"], ["--limit", "-1"], ["--action", "x"], ["--since", "x"], ["--user", "x"]]
)
def test_a_filter_that_means_nothing_is_refused(app, arguments):
    result = app.test_cli_runner().invoke(args=["audit", *arguments])
    assert result.exit_code != 0
    assert "Traceback" not in result.output and result.stdout == ""


# --- for site builders -----------------------------------------------------------------------------------------------


def test_a_site_builder_hears_of_it_after_it_is_kept(app, client):
    heard = []

    def listen(sender, user):
        heard.append((sender, user.email, [event["action"] for event in events(app)]))

    with audit.signal(Action.SIGNED_UP).connected_to(listen):
        sign_up(client)
    assert heard == [(app, EMAIL, ["user:signed_up"])]


def test_what_happens_to_a_stranger_has_no_user(client):
    heard = []

    def listen(_sender, user):
        heard.append(user)

    with audit.signal(Action.SIGN_IN_REFUSED).connected_to(listen):
        client.post("/auth", data={"email": "nobody@example.org", "password": "x"})
    assert heard == [None]


def test_signals_are_known_by_the_names_of_the_actions():
    assert audit.signal(Action.PASSWORD_CHANGED).name == "user:password:changed"


def test_a_refused_change_is_no_change_to_a_listener(client):
    """A hook on changed passwords must not run for a thief's wrong guess."""
    sign_up(client)
    heard = []

    def listen(_sender, user):
        heard.append(user)

    with (
        audit.signal(Action.PASSWORD_CHANGED).connected_to(listen),
        audit.signal(Action.CONFIRMED).connected_to(listen),
    ):
        client.post("/account/password", data={"old_password": "x", "password": NEW})
        client.post("/account/password", data={"old_password": PASSWORD, "password": "password1"})
        client.post("/auth/fresh", data={"password": "x"})
    assert heard == []


def write_what_is_there_already(*_, **__):
    db.session.add(User(canonical_email=EMAIL, email=EMAIL))
    db.session.flush()


def make_a_mistake(*_, **__):
    raise RuntimeError


@pytest.mark.parametrize("raises", [make_a_mistake, write_what_is_there_already])
def test_a_receiver_that_raises_stops_nothing(client, caplog, raises):
    with signal(Action.SIGNED_UP).connected_to(raises), signal(Action.SESSIONS_ENDED).connected_to(raises):
        assert sign_up(client).location == "/home"
        thief = other_browser(client)
        sign_in(thief)
        assert client.post("/account/sessions/end_others").status_code == 303
    assert is_signed_in(client)
    assert not is_signed_in(thief)
    assert len([line for line in caplog.messages if line == "a receiver of the signal failed"]) == 2


def test_what_was_recorded_under_an_earlier_key_is_found_and_forgotten(make_new_app, redis_url, stage):
    old, new = "an earlier key of thirty-two characters", "the key of today, of thirty-two or more"
    with quiet_app(redis_url, stage.instance, SECRET_KEY=old) as first:
        # Before there is an account: nothing but the hash tells whose it is.
        first.test_client().post("/auth", data={"email": EMAIL, "password": "wrong"})
    today = make_new_app(SECRET_KEY=new, SECRET_KEY_FALLBACKS=old)
    assert len([line for line in flask(today, "audit", "--user", EMAIL).splitlines() if "refused" in line]) == 1
    client = today.test_client()
    sign_up(client)
    assert client.post("/account/delete", data={"email": EMAIL}).status_code == 303
    with today.app_context():
        kept = audit.latest(10)
        assert [event.action for event in kept if event.ip or event.browser] == []
        assert Action.SIGN_IN_REFUSED.value in [event.action for event in kept]


def test_of_many_receivers_one_that_raises_stops_none_of_the_others(client):
    heard = []

    def listen(_app, user):
        heard.append(user.email)

    async def listen_later(_app, user):
        heard.append(user.name)

    with (
        signal(Action.SIGNED_UP).connected_to(make_a_mistake),
        signal(Action.SIGNED_UP).connected_to(listen),
        signal(Action.SIGNED_UP).connected_to(listen_later),
    ):
        sign_up(client)
    assert sorted(heard) == ["Ada Lovelace", EMAIL]


def test_a_receiver_that_nothing_else_holds_stays_connected(client):
    heard = []

    def make_app():
        @signal(Action.SIGNED_UP).connect
        def listen(_app, user):
            heard.append(user.email)

    make_app()
    try:
        sign_up(client)
    finally:
        signal(Action.SIGNED_UP).receivers.clear()
    assert heard == [EMAIL]


@pytest.mark.parametrize("filters", ODD.values(), ids=ODD)
def test_odd_filters_find_what_there_is(app, client, filters):
    sign_up(client)
    found = events(app, *filters)
    assert bool(found) == (filters[1] not in ("9999-12-31", ODD["no text"][1]))


def test_more_events_than_a_database_can_count_are_refused_in_a_line(app):
    result = app.test_cli_runner().invoke(args=["audit", "--limit", "99999999999999999999"])
    assert result.exit_code == 2 and "Traceback" not in result.output
