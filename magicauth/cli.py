"""`flask users | sessions | mail | audit | doctor`."""

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

import click
from flask import Flask, current_app
from flask.cli import AppGroup, with_appcontext
from sqlalchemy import event, select
from sqlalchemy.orm.exc import StaleDataError
from werkzeug.exceptions import HTTPException

from magicauth import audit, mail, outbox, sessions
from magicauth.account.sessions import session_as_json
from magicauth.addresses import parse_email
from magicauth.engines import REDIS_IS_AWAY
from magicauth.errors import AddressTaken, Refused, reason_of
from magicauth.extensions import db, redis
from magicauth.flows import accounts, deletion, security
from magicauth.models import Action, AuditEvent, User, as_json, iso
from magicauth.models.columns import first_id
from magicauth.ops import doctor
from magicauth.respond import AWAY
from magicauth.visitor import COMMAND_LINE, Visitor


class _InOneLine(click.Command):
    """A command that says in one line what is wrong: a refusal, or a machine that is away."""

    # What one that changes accounts says of those, where Redis went away.
    what_stands = ""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs it."""
        try:
            return super().invoke(ctx)
        except Refused as refusal:
            words = [word for sentences in refusal.errors.values() for word in sentences]
            raise click.ClickException(" ".join(words) or refusal.message) from None
        except HTTPException as error:
            # Of a receiver of the site's, which was asked before a deletion.
            raise click.ClickException(str(error.description or error)) from None
        except BrokenPipeError:
            raise
        except OSError as error:
            # At its end Python would try once more to write what is left, and end with a status of its own.
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.ClickException(f"It could not be written or read: {error.strerror or error}.") from None
        except StaleDataError:
            raise click.ClickException("The account was changed at the same moment. Try again.") from None
        except REDIS_IS_AWAY as error:
            said = f"Redis is away ({reason_of(error)}).{self.what_stands}"
            raise click.ClickException(said) from None
        except AWAY as error:
            said = f"The database is away, or wants `flask db upgrade` ({reason_of(error)})."
            raise click.ClickException(said) from None


class _Changing(_InOneLine):
    def invoke(self, ctx: click.Context) -> Any:
        """Runs it, and knows whether it has changed something."""
        self.what_stands = " Nothing was changed."

        def note(_: Any) -> None:
            self.what_stands = " What was changed in the database stands."

        event.listen(db.session, "after_commit", note)
        try:
            return super().invoke(ctx)
        finally:
            event.remove(db.session, "after_commit", note)


class _Commands(AppGroup):
    command_class = _InOneLine


class _ChangingCommands(AppGroup):
    command_class = _Changing


users = _ChangingCommands("users", help="Accounts.")
_sessions_group = _Commands("sessions", help="Sessions.")
_mail_group = _Commands("mail", help="Letters.")
_as_json_option = click.option("--json", "as_json_", is_flag=True, help="For programs.")


def init_app(app: Flask) -> None:
    """Registers the commands."""
    for command in (users, _sessions_group, _mail_group, audit_command, doctor_command):
        app.cli.add_command(command)


@users.command("list")
@_as_json_option
def list_users(as_json_: bool) -> None:
    """Every account, in the order they were made."""
    found = db.session.scalars(select(User).order_by(User.id).execution_options(yield_per=1000))
    _show((_user_facts(user) for user in found), as_json_)


@users.command("show")
@click.argument("email")
@_as_json_option
def show_user(email: str, as_json_: bool) -> None:
    """One account."""
    _show_one(_user_facts(_user(email)), as_json_)


@users.command("create")
@click.argument("email")
@click.option("--name", default="", help="The person's name.")
@click.option("--admin", is_flag=True, help="May see every account.")
@click.option("--password-stdin", is_flag=True, help="Reads the password from standard input.")
def create_user(email: str, name: str, admin: bool, password_stdin: bool) -> None:
    """Makes an account. Without a password its owner sets one later."""
    may_have_password = current_app.config["MAGICAUTH_PASSWORDS"] != "off"
    if password_stdin and not may_have_password:
        raise click.ClickException("MAGICAUTH_PASSWORDS is off: no account has a password.")
    # None where the shell has closed it.
    stdin: TextIO | None = sys.stdin
    if password_stdin and stdin is None:
        raise click.ClickException("There is no standard input to read the password from.")
    password = stdin.readline().rstrip("\r\n") if password_stdin and stdin else None
    try:
        user = accounts.create(email, name, password, _operator(), is_admin=admin)
    except AddressTaken:
        raise click.ClickException(f"{email} has an account already.") from None
    click.echo(f"Account made: {user.email}")
    if password is None:
        own = ", and may set one under Account" if may_have_password else ""
        click.echo(f"Without a password: its owner signs in by mailed code{own}.")


@users.command("invite")
@click.argument("email")
def invite(email: str) -> None:
    """Mails a sign-up link, whoever may sign up."""
    try:
        typed = accounts.invite(email, _operator())
    except AddressTaken:
        raise click.ClickException(f"{email} has an account already.") from None
    click.echo(f"Invitation on its way: {typed}")


@users.command("promote")
@click.argument("email")
def promote(email: str) -> None:
    """Makes an administrator."""
    user = _user(email)
    user.is_admin = True
    audit.commit(Action.PROMOTED, _operator(), user)
    click.echo(f"{user.email} is an administrator.")


@users.command("demote")
@click.argument("email")
def demote(email: str) -> None:
    """Makes an administrator one no longer."""
    user = _user(email)
    user.is_admin = False
    audit.commit(Action.DEMOTED, _operator(), user)
    click.echo(f"{user.email} is not an administrator.")


@users.command("disable")
@click.argument("email")
def disable(email: str) -> None:
    """Shuts an account: its sessions end, and it is answered like a stranger's."""
    user = _user(email)
    user.disabled = True
    security.end_everything(Action.DISABLED, user, _operator())
    click.echo(f"{user.email} is disabled.")


@users.command("enable")
@click.argument("email")
def enable(email: str) -> None:
    """Opens an account that was disabled."""
    user = _user(email)
    user.disabled = False
    audit.commit(Action.ENABLED, _operator(), user)
    click.echo(f"{user.email} is enabled.")


@users.command("delete")
@click.argument("email")
@click.option("--yes", is_flag=True, help="Does not ask.")
def delete(email: str, yes: bool) -> None:
    """Deletes an account, for good."""
    user = _user(email)
    # Who has no account any more cannot be found again: the letter that tells of it must find its queue.
    redis().ping()
    if not yes:
        click.confirm(f"Delete {user.email} for good?", abort=True)
    deletion.delete(user, _operator(), by_owner=False)
    click.echo(f"{user.email} is deleted.")


@users.command("sign-out")
@click.argument("email")
def sign_out(email: str) -> None:
    """Ends every session of an account."""
    user, news = _user(email), None
    # Whoever throws an intruder out does not wait for the letter that tells of it: what follows raises too, when the
    # sessions are void.
    with contextlib.suppress(*REDIS_IS_AWAY):
        news = security.news("sessions_ended", user, _operator())
    security.end_everything(Action.SESSIONS_ENDED, user, _operator(), news=news)
    click.echo(f"{user.email} is signed out everywhere.")


@_sessions_group.command("list")
@click.argument("email")
@_as_json_option
def list_sessions(email: str, as_json_: bool) -> None:
    """Where an account is signed in."""
    user = _user(email)
    found = sessions.listed(user.id.hex, user.session_epoch)
    # Whoever runs this has none of his own among them.
    _show(({k: v for k, v in session_as_json(one).items() if k != "current"} for one in found), as_json_)


@_mail_group.command("status")
@_as_json_option
def mail_status(as_json_: bool) -> None:
    """How many letters wait, are retried or were given up; how the last one went."""
    status = outbox.status()
    facts = {
        "waiting": status.waiting,
        "retrying": status.retrying,
        "given_up": status.dead,
        "oldest_seconds": round(status.oldest, 1),
        "last": status.last or "none yet",
        "reason": status.reason,
    }
    _show_one(facts, as_json_)


@_mail_group.command("send-test")
@click.argument("email")
def send_test(email: str) -> None:
    """Queues a letter that says that mail works."""
    typed = parse_email(email)[1]
    mail.about_account("test", typed, _operator())
    click.echo(f"Test letter on its way: {typed}")


@_mail_group.command("retry")
def retry() -> None:
    """Queues again what was given up."""
    click.echo(f"{outbox.retry_dead()} letters queued again.")


@_mail_group.command("worker")
@click.option("--threads", type=click.IntRange(min=1), default=4, show_default=True, help="Letters at a time.")
def worker(threads: int) -> None:
    """Sends letters until it is told to stop."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    post: outbox.Outbox = current_app.extensions["magicauth-outbox"]
    post.start_worker(threads)
    click.echo("Sending letters.")
    # In slices, so that a signal is noticed on every platform.
    while not stop.wait(1.0):
        pass
    post.stop_worker()


@click.command("audit", cls=_InOneLine)
@with_appcontext
@click.option("--user", "email", help="Only what happened to this address, and to the account that has it now.")
@click.option("--action", type=click.Choice([action.value for action in Action]), help="Only this action.")
@click.option("--result", help='Only this result, such as "ok" or "wrong code".')
@click.option("--since", type=click.DateTime(), help="Only from this moment (UTC) on.")
@click.option(
    "--limit", type=click.IntRange(1, 1_000_000_000), default=100, show_default=True, help="The latest so many."
)
@_as_json_option
def audit_command(
    email: str | None, action: str | None, result: str | None, since: datetime | None, limit: int, as_json_: bool
) -> None:
    """What happened to accounts, the latest first."""
    conditions = []
    if action is not None:
        conditions.append(AuditEvent.action == action)
    if result is not None:
        # What the shell hands over need not be text.
        conditions.append(AuditEvent.result == result.encode(errors="replace").decode())
    if since:
        conditions.append(AuditEvent.id >= first_id(since.replace(tzinfo=UTC)))
    found = audit.latest(limit, *conditions, canonical_email="" if email is None else parse_email(email)[0])
    if email is not None and not found:
        # Of somebody who deleted the account there may be some.
        _user(email)
    _show(map(_event_facts, found), as_json_)


@click.command("doctor", cls=_InOneLine)
@with_appcontext
@_as_json_option
def doctor_command(as_json_: bool) -> None:
    """Checks every setting and dependency; exit 1 if something is wrong."""
    findings = doctor.examine()
    if as_json_:
        click.echo(json.dumps([{"check": f.check, "state": f.state, "words": f.words} for f in findings]))
    else:
        colours = {"ok": "green", "warning": "yellow", "wrong": "red"}
        for finding in findings:
            click.echo(f"{click.style(f'{finding.state:<8}', colours[finding.state])} {finding.check}: {finding.words}")
    if any(finding.state == "wrong" for finding in findings):
        sys.exit(1)


def _user(email: str) -> User:
    user = User.by_email(parse_email(email)[0])
    if user is None:
        raise click.ClickException(f"There is no user with the address {email}.")
    return user


def _operator() -> Visitor:
    base_url = current_app.config["PUBLIC_URL"] or "http://localhost:5000"
    return Visitor(ip="", browser=COMMAND_LINE, base_url=base_url, language="en")


def _user_facts(user: User) -> dict[str, Any]:
    return as_json(user) | {
        "admin": user.is_admin,
        "disabled": user.disabled,
        "has_password": user.password_hash is not None,
    }


def _event_facts(event: AuditEvent) -> dict[str, Any]:
    return {
        "at": iso(event.at),
        "action": event.action,
        "result": event.result,
        "user": str(event.user_id) if event.user_id else "",
        "subject": event.subject,
        "address": event.ip,
        "browser": event.browser,
    }


def _show_one(facts: Mapping[str, Any], as_json_: bool) -> None:
    if as_json_:
        click.echo(json.dumps(facts, ensure_ascii=False))
    else:
        for name, value in facts.items():
            click.echo(f"{name:<16}{_cell(value)}")


def _show(rows: Iterable[Mapping[str, Any]], as_json_: bool) -> None:
    """A list as one JSON array, or as a table as wide as its first rows need."""
    if as_json_:
        click.echo("[" + ",\n ".join(json.dumps(row, ensure_ascii=False) for row in rows) + "]")
        return
    for batch, widths in _batches(rows):
        for row in batch:
            click.echo("  ".join(_cell(value).ljust(width) for value, width in zip(row, widths, strict=True)).rstrip())


def _batches(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[list[list[Any]], list[int]]]:
    batch: list[list[Any]] = []
    for row in rows:
        if not batch:
            batch.append([name.upper() for name in row])
        batch.append(list(row.values()))
        if len(batch) > 1000:
            yield batch, _widths(batch)
            batch = []
    if batch:
        yield batch, _widths(batch)


def _widths(batch: list[list[Any]]) -> list[int]:
    return [max(len(_cell(row[column])) for row in batch) for column in range(len(batch[0]))]


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
