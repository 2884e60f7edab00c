"""`/auth/password/strength`: how strong a password would be, for the page where it is being typed. JSON only."""

import threading

from flask import Blueprint, Response, jsonify

from magicauth import guards, passwords
from magicauth.errors import NotFound, SignInRequired, TooMany
from magicauth.flows import reset, sign_up
from magicauth.guards import current_user
from magicauth.languages import in_words
from magicauth.models.user import NAME_LENGTH
from magicauth.pending import under_way
from magicauth.reader import read

# One is looked at, and one waits.
_looking = threading.BoundedSemaphore(2)
_SECONDS_TO_WAIT = 1.0

bp = Blueprint("strength", __name__)
bp.before_request(guards.passwords_in_use)


@bp.post("/auth/password/strength")
def tell() -> Response:
    whose = _whose()
    # What cannot be asked at once leaves the page's own advice: it must not hold the threads that others wait for.
    if not _looking.acquire(blocking=False):
        raise TooMany(_SECONDS_TO_WAIT, reason="many passwords to look at")
    try:
        score, words = passwords.strength(read("password"), *whose)
    finally:
        _looking.release()
    # In the reader's language, unlike other JSON: these words are to be shown, not compared.
    return jsonify(status="SUCCESS", message=in_words(words), score=score)


def _whose() -> tuple[str, str]:
    """Whose address and name it must not be made of. Only those may ask who are choosing a password, or are signed in
    and so known: a stranger would have us work for nothing. Raises Invalid, Denied or SignInRequired."""
    token = read("token")
    if token:
        return sign_up.invitation(token).email, read("name")[:NAME_LENGTH]
    try:
        user = reset.whose(under_way())[0]
    except NotFound:
        if not current_user:
            raise SignInRequired from None
        return current_user.email, current_user.name
    return user.canonical_email, user.name
