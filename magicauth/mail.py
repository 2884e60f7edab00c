"""The letters: a function for each, or for each sort, says what is in it; codes and links are derived here, when it is
written."""

import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parseaddr
from types import SimpleNamespace
from typing import Any

import flask_mail
from flask import current_app
from flask_babel import force_locale

from magicauth import challenges, mime, outbox
from magicauth.challenges import Challenge
from magicauth.colours import ACCENT, colours
from magicauth.extensions import db, keyring, redis
from magicauth.languages import CODES, RIGHT_TO_LEFT, SOURCE
from magicauth.models import AuditEvent, User
from magicauth.outbox import Job
from magicauth.visitor import COMMAND_LINE, Visitor

_ONCE_IN = 86_400
# How often, and after how many seconds, a worker looks again whether a change was committed.
_LOOKS_FOR_EVENT = 10
_BETWEEN_LOOKS = 0.05


def about_challenge(letter: str, challenge: Challenge, visitor: Visitor, **context: Any) -> None:
    """Queues the letter that carries the challenge's code or link; in its language, or else the visitor's."""
    asked = _asked(visitor, challenge.language) | context
    outbox.put(Job(letter, challenge.id, challenge.sends, context=asked), challenges.ttl(challenge.purpose))


def about_account(letter: str, to: str, visitor: Visitor, language: str = "", **context: Any) -> None:
    """Queues news about an account for its owner; in `language`, or else the visitor's."""
    outbox.put(Job(letter, to=to, context=_asked(visitor, language) | context))


def write(job: Job, challenge: Challenge | None) -> flask_mail.Message | None:
    """The message of a queued letter, which carries that open challenge; None if it is not to be sent (any more)."""
    if challenge is None:
        return _PLAIN[job.letter](job)
    return _CARRYING[job.letter](job, challenge)


def sign_in(job: Job, challenge: Challenge) -> flask_mail.Message | None:
    """The code and the link; or for a stranger that there is no account, and how to make one."""
    if challenge.user_id:
        return _answerable("sign_in", job, challenge)
    owner = User.by_email(challenge.email.lower())
    if owner is not None:
        # One that is not disabled was made, or enabled, since.
        return _to_owner(owner, job, challenge)
    if current_app.config["MAGICAUTH_SIGN_UP"] == "open":
        follow_up = challenges.follow_up(challenge, job.send, "sign_up", challenge.email)
        return _answerable("no_account", job, follow_up) if follow_up else None
    # What cannot lead anywhere is said once a day, so that nobody can fill an inbox with it.
    if _is_first(f"told-no-account:{keyring().tag('told', challenge.email.lower())}", job):
        return _letter("no_account", job, challenge.email, link=None)
    return None


def sign_up(job: Job, challenge: Challenge) -> flask_mail.Message | None:
    """The link that finishes signing up; or for the owner of an account, one that signs in to it."""
    if not challenge.user_id:
        return _answerable("sign_up", job, challenge)
    owner = User.by_id(challenge.user_id)
    return _to_owner(owner, job, challenge) if owner else None


def invitation(job: Job, challenge: Challenge) -> flask_mail.Message | None:
    """An operator's invitation, with the link that finishes signing up."""
    _require_event(job)
    return _answerable("invitation", job, challenge)


def reset(job: Job, challenge: Challenge) -> flask_mail.Message | None:
    """The code and link for a new password; nothing that leads anywhere for a stranger."""
    return _answerable("reset", job, challenge) if challenge.user_id else sign_in(job, challenge)


def change_email(job: Job, challenge: Challenge) -> flask_mail.Message | None:
    """To a new address: the code and link that prove it; to one that has an account, a way to sign in to that."""
    if challenge.user_id:
        return _answerable("change_email", job, challenge)
    owner = User.by_email(challenge.email.lower())
    return _to_owner(owner, job, challenge) if owner else None


def fresh(job: Job, challenge: Challenge) -> flask_mail.Message | None:
    """The code that makes a sign-in fresh again."""
    return _answerable("fresh", job, challenge)


def email_changed(job: Job, challenge: Challenge) -> flask_mail.Message | None:
    """To the old address: which one took its place, and the way back."""
    _require_event(job)
    undo_url = f"{_base_url(job)}/account/email/undo?token={challenge.token}"
    return _letter(
        "email_changed",
        job,
        challenge.email,
        undo_url=undo_url,
        new_email=job.context["new_email"],
        **life_in_words(challenges.WARNING_TTL),
    )


def email_undone(job: Job) -> flask_mail.Message | None:
    """To the address that an account was moved away from again, by whoever reads its earlier one."""
    return _letter("email_undone", job, job.to)


def account_deleted(job: Job) -> flask_mail.Message | None:
    """The account is gone, and whose doing it was."""
    _require_event(job)
    return _letter("account_deleted", job, job.to, by_owner=job.context["by_owner"])


def test(job: Job) -> flask_mail.Message:
    """What `flask mail send-test` sends."""
    return _letter("test", job, job.to)


def _warning(job: Job, challenge: Challenge) -> flask_mail.Message | None:
    _require_event(job)
    not_me_url = f"{_base_url(job)}/auth/not_me?token={challenge.token}"
    return _letter(job.letter, job, challenge.email, not_me_url=not_me_url, **life_in_words(challenges.WARNING_TTL))


_CARRYING: Mapping[str, Callable[[Job, Challenge], flask_mail.Message | None]] = {
    letter.__name__: letter
    for letter in (
        sign_in,
        sign_up,
        invitation,
        reset,
        change_email,
        fresh,
        email_changed,
    )
} | dict.fromkeys(("password_changed", "new_browser", "sessions_ended", "codes_used_up"), _warning)
_PLAIN: dict[str, Callable[[Job], flask_mail.Message | None]] = {
    letter.__name__: letter for letter in (email_undone, account_deleted, test)
}


def _to_owner(user: User, job: Job, challenge: Challenge) -> flask_mail.Message | None:
    """That there is an account already, and a link that signs in to it."""
    if user.disabled:
        return _letter("disabled_account", job, challenge.email, user.language)
    follow_up = challenges.follow_up(
        challenge,
        job.send,
        "sign_in",
        user.email,
        user_id=user.id.hex,
        epoch=user.session_epoch,
        language=user.language or "",
    )
    return _answerable("has_account", job, follow_up) if follow_up else None


def _require_event(job: Job) -> None:
    """Waits a moment for the event that a letter tells of, where it was queued before that was committed: of two who
    change an account at once one does, and both have queued theirs. Raises NotYet."""
    event = job.context.get("event")
    if event is None:
        return
    for _ in range(_LOOKS_FOR_EVENT):
        if AuditEvent.stands(uuid.UUID(event)):
            return
        db.session.rollback()
        time.sleep(_BETWEEN_LOOKS)
    raise outbox.NotYet("what it tells of was not done")


def _is_first(what: str, job: Job) -> bool:
    """Whether no other letter has said it in a day. This very one may be written again: its worker was killed, or the
    mail server put it off."""
    this_letter = f"{job.challenge_id}/{job.send}/{job.context['at']}"
    key = f"magicauth:{what}"
    return bool(redis().set(key, this_letter, nx=True, ex=_ONCE_IN) or redis().get(key) == this_letter.encode())


def _answerable(template: str, job: Job, challenge: Challenge) -> flask_mail.Message:
    path = "/users/signup" if challenge.purpose == "sign_up" else "/auth/link"
    life = challenges.ttl(challenge.purpose)
    return _letter(
        template,
        job,
        challenge.email,
        challenge.language,
        link=f"{_base_url(job)}{path}?token={challenge.token}",
        code=challenge.code,
        **life_in_words(life),
    )


def life_in_words(life: int) -> dict[str, Any]:
    """Seconds as a letter says them, never as more than they are: whole hours, or minutes where `hours` is 0."""
    return {"hours": 0 if life < 7200 and life % 3600 else life // 3600, "minutes": max(1, life // 60)}


def grouped(code: str, gap: str = " ") -> str:
    """A code as people read it: in groups of three, or of four or five where that leaves none over."""
    size = {8: 4, 10: 5}.get(len(code), 3)
    return gap.join(code[start : start + size] for start in range(0, len(code), size))


def _letter(
    template: str, job: Job, to: str, language: str | None = None, *, code: str = "", **context: Any
) -> flask_mail.Message:
    config, asked = current_app.config, job.context
    language = language or asked.get("language")
    language = language if language in CODES else SOURCE
    templates: Any = current_app.jinja_env
    context = {
        "magicauth": templates.globals["magicauth"].speaking(language),
        "public_url": _base_url(job),
        "email": to,
        "asked": SimpleNamespace(
            at=datetime.fromtimestamp(asked["at"], UTC),
            browser=asked.get("browser", ""),
            place=asked.get("ip", ""),
            by_operator=asked.get("browser") == COMMAND_LINE,
        ),
        "accent": colours(config["MAGICAUTH_ACCENT"] or ACCENT),
        # A space makes two numbers of a code, and right to left the second is shown before the first; one that does not
        # break keeps them one number (UAX #9, W4).
        "code_grouped": grouped(code, "\u00a0" if language in RIGHT_TO_LEFT else " "),
        **context,
    }
    with force_locale(language):
        # Not by Flask, which asks the site's context processors: here is no request that they could read.
        subject, body, html = (
            templates.get_template(f"mail/{template}.{kind}").render(context) for kind in ("subject.txt", "txt", "html")
        )
    name, address = parseaddr(config["MAIL_DEFAULT_SENDER"])
    message = mime.Message(
        # One line, whatever a name holds: a line break would begin a header of somebody else's choice.
        subject=" ".join(subject.splitlines()).strip(),
        recipients=[to],
        body=body,
        html=html,
        sender=address,
        date=time.time(),
        extra_headers={
            "From": f"{mime.phrase(name or config['MAGICAUTH_SITE_NAME'])} <{address}>",
            "Reply-To": address,
            "Auto-Submitted": "auto-generated",
            "X-Auto-Response-Suppress": "All",
        },
    )
    message.msgId = _message_id(job, address)
    return message


def _base_url(job: Job) -> str:
    # A letter that waited while an operator mended the address has the new one.
    return str(current_app.config["PUBLIC_URL"] or job.context.get("base_url", ""))


def _message_id(job: Job, sender: str) -> str:
    # The same for a letter that goes out twice because its worker was killed, so that mail programs show it once.
    parts = (job.letter, job.challenge_id, str(job.send), job.to, str(job.context["at"]))
    return f"<{keyring().tag('message-id', *parts)}@{sender.rpartition('@')[2]}>"


def _asked(visitor: Visitor, language: str) -> dict[str, Any]:
    return {
        # To the microsecond: it tells apart letters that were asked for at once.
        "at": time.time(),
        "browser": visitor.browser,
        "ip": visitor.ip,
        "base_url": visitor.base_url,
        "language": language or visitor.language,
    }
