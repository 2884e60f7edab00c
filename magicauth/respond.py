"""Answers: a page or JSON from the same view, and the one place where a refusal becomes either."""

import functools
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import sqlalchemy.exc
import sqlalchemy.orm.exc
from flask import Flask, Response, current_app, g, jsonify, redirect, render_template, request
from redis.exceptions import DataError
from werkzeug.exceptions import BadRequest, BadRequestKeyError, HTTPException, RequestEntityTooLarge
from werkzeug.routing import RequestRedirect

from magicauth import notices
from magicauth.engines import REDIS_IS_AWAY
from magicauth.errors import (
    N_,
    Denied,
    FreshSignInRequired,
    NotFound,
    OtherAccount,
    Refused,
    SignInRequired,
    TooLarge,
    Unavailable,
    reason_of,
)
from magicauth.extensions import DATABASE_IS_AWAY, db, is_not_understood, note_hang
from magicauth.languages import accepted
from magicauth.migrating import tables_are_there
from magicauth.models import User
from magicauth.next_page import here, own_path
from magicauth.reader import wants_json
from magicauth.sessions import this_session

View = Callable[..., Any]

log = logging.getLogger("magicauth")

# What a page says of an error that a view raises with `abort`; of the others it shows a sentence of its own.
_SENTENCES = {
    400: N_("Bad Request."),
    403: N_("Forbidden."),
    500: N_("Something went wrong on our side."),
}

# Headers of an HTTP error's own page, in whose place ours goes.
_OF_ITS_BODY = ("content-type", "content-length")

# Everything else that Redis, a Cluster and the database raise is our mistake, and a 500.
AWAY = (*REDIS_IS_AWAY, *DATABASE_IS_AWAY)


def init_app(app: Flask) -> None:
    """Answers refusals, HTTP errors and machines that are away, in both forms."""
    app.register_error_handler(Refused, refused)
    app.register_error_handler(HTTPException, _http_error)
    for error in AWAY:
        app.register_error_handler(error, _away)
    app.register_error_handler(sqlalchemy.orm.exc.StaleDataError, _overtaken)
    app.teardown_appcontext(_let_go_of_the_database)


def page(template: str, json: dict[str, Any] | None = None, **context: Any) -> Response:
    """A page, or JSON with what `json` holds of it. A refusal under way shows on the page and sets its status."""
    if wants_json():
        return _json(200, N_("OK"), json or {})
    response = current_app.make_response(render_template(template, **context))
    if "_magicauth_refusal" in g:
        response.status_code = g._magicauth_refusal.status
    return response


def go(path: str, message: str = N_("OK"), status: int = 200, **fields: Any) -> Response:
    """On to `path`: 303 for a browser, JSON with `next` for a program."""
    if wants_json():
        return _json(status, message, {"next": path, **fields})
    response: Response = redirect(path, 303)  # type: ignore[assignment]
    return response


def link_gone(refusal: Denied, again: str = "", signed_in_as: str = "", **context: Any) -> Response:
    """The page of a mailed link that is not good (any more). Its form posts to `again`, which mails another; who is
    signed in already needs none. Raises the refusal for a program, and where another is what the page is to say."""
    if wants_json() or not isinstance(g.get("_magicauth_refusal", refusal), Denied):
        raise refusal
    if "_magicauth_refusal" not in g:
        _log(refusal)
    g._magicauth_refusal = refusal
    return page("auth/link_gone.html", again=again, signed_in_as=signed_in_as, **context)


def json_file(name: str, content: dict[str, Any]) -> Response:
    """JSON to keep: the browser saves it under `name`."""
    response = jsonify(content)
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def again(show: View) -> Callable[[View], View]:
    """For a view that takes a form: where it is refused, a browser gets the form's page again, by `show`, with what was
    typed and what is wrong."""

    def decorate(view: View) -> View:
        @functools.wraps(view)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            try:
                return view(*args, **kwargs)
            except (SignInRequired, FreshSignInRequired, OtherAccount):
                raise
            except Refused as refusal:
                if wants_json():
                    raise
                return _shown_again(show, refusal)

        return wrapper

    return decorate


def refused(refusal: Refused) -> Response:
    """A refusal as JSON, as a way to sign in, or as a page."""
    _log(refusal)
    if wants_json():
        response = _json(refusal.status, refusal.message, _fields(refusal))
    elif isinstance(refusal, SignInRequired):
        _tell_of_ended_session()
        response = redirect(_sign_in_path(), 303)  # type: ignore[assignment]
    elif isinstance(refusal, FreshSignInRequired):
        response = redirect("/auth/fresh", 303)  # type: ignore[assignment]
    else:
        return _page_of(refusal)
    return _with_retry_after(response, refusal)


def _tell_of_ended_session() -> None:
    if request.path != "/logout" and (request.method == "POST" or this_session().has_ended):
        notices.bid_farewell("ended_unsaved" if request.method == "POST" else "ended")


def _page_of(refusal: Refused) -> Response:
    g._magicauth_refusal = refusal
    try:
        page = _rendered(refusal)
    except Exception as error:
        if isinstance(error, AWAY) and not isinstance(refusal, Unavailable) and not _is_of_the_site(error):
            return _away(error)
        # What failed may have been finding out who reads the page; the second time nobody is asked.
        page = _rendered_or_bare(refusal)
    response = current_app.make_response(page)
    response.status_code = refusal.status
    return _with_retry_after(response, refusal)


def _rendered_or_bare(refusal: Refused) -> str:
    try:
        return _rendered(refusal)
    except Exception:
        log.exception("the page of a refusal cannot be shown")
        # A template or a context processor of the site's is at fault: here neither has a say.
        templates: Any = current_app.jinja_env
        ours = templates.globals["magicauth"].speaking(accepted(request.headers.get("Accept-Language", "")))
        bare: str = templates.get_template("magicauth/bare.html").render(magicauth=ours, refusal=refusal)
        return bare


def _rendered(refusal: Refused) -> str:
    return render_template("refused.html", refusal=refusal, retry=here() or "/")


def _shown_again(show: View, refusal: Refused) -> Response:
    g._magicauth_refusal = refusal
    try:
        response = current_app.make_response(show())
    except Refused:
        response = None
    if response is None or response.status_code == 303:
        # There is no such form any more: its page refuses too, or leads away.
        del g._magicauth_refusal
        return refused(refusal)
    _log(refusal)
    response.status_code = refusal.status
    return _with_retry_after(response, refusal)


def _http_error(error: HTTPException) -> Any:
    if isinstance(error, RequestRedirect) or error.code is None or error.code < 400:
        return error
    if isinstance(error, RequestEntityTooLarge):
        return refused(TooLarge())
    cause = getattr(error, "original_exception", None)
    if isinstance(cause, AWAY) and not _is_of_the_site(cause):
        # Raised where Flask asks no handler of its own: by what a site does after each request.
        return _away(cause)
    refusal = NotFound() if error.code == 404 else Refused(_SENTENCES.get(error.code, f"{error.name}."))
    # Of a field that a view misses, Werkzeug's class has no sentence but a property.
    stock = BadRequest.description if isinstance(error, BadRequestKeyError) else type(error).description
    if error.description != stock:
        # A sentence of the site's own: `abort(404, description="No such report.")`.
        # Not ours to translate: as text it is escaped, and a `%` is one.
        own = error.description
        refusal.message, refusal.kind = own if isinstance(own, str) else str(own), "of_the_site"
    refusal.status = error.code
    response = refused(refusal)
    # What belongs to the status: `Allow`, `Retry-After`, `WWW-Authenticate`, `Content-Range`.
    response.headers.extend(header for header in error.get_headers() if header[0].lower() not in _OF_ITS_BODY)
    return response


def _away(error: Exception) -> Response:
    if _is_of_the_site(error):
        raise error
    note_hang(error)
    return refused(Unavailable(reason=reason_of(error)))


def _is_of_the_site(error: Exception) -> bool:
    """Whether something was asked that is none of ours and cannot be answered: a mistake, which no waiting mends."""
    if isinstance(error, DataError) or str(error).startswith("WRONGTYPE"):
        return True
    if not is_not_understood(error):
        return False
    try:
        db.session.rollback()
        tables_are_there()
    except AWAY:
        return False
    return True


def _overtaken(error: Exception) -> Response:
    if f"'{User.__tablename__}'" not in str(error):
        raise error
    # Another change of the same account came first, and has ended this session with all others.
    return refused(SignInRequired(reason="the account was changed meanwhile"))


def _let_go_of_the_database(_: BaseException | None) -> None:
    # By now the answer stands, and what it says is committed: a database that has died since must not make it a 500.
    # Flask-SQLAlchemy, which comes after this, would let it.
    try:
        db.session.remove()
    except sqlalchemy.exc.SQLAlchemyError:
        db.session.registry.clear()


def _json(status: int, message: str, fields: dict[str, Any]) -> Response:
    response = jsonify({"status": "SUCCESS" if status < 400 else "FAIL", "message": message, **fields})
    response.status_code = status
    return response


def _fields(refusal: Refused) -> dict[str, Any]:
    return ({"errors": refusal.errors} if refusal.errors else {}) | refusal.fields


def _sign_in_path() -> str:
    if request.path == "/logout":
        return "/auth"
    # What would be ignored there is left out here: servers refuse addresses that are longer still.
    path = own_path(here())
    return f"/auth?next={quote(path, safe='/')}" if path else "/auth"


def _with_retry_after(response: Response, refusal: Refused) -> Response:
    if refusal.retry_after is not None:
        response.headers["Retry-After"] = str(refusal.retry_after)
    return response


def _log(refusal: Refused) -> None:
    level = logging.WARNING if refusal.status >= 500 else logging.INFO
    said = " ".join(filter(None, ("refused:", refusal.message, refusal.reason)))
    log.log(level, said, extra={"status": refusal.status})
