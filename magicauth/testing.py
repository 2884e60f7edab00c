"""For tests of a site's own pages: a test client that is signed in, without a letter."""

import time
from typing import Any
from urllib.parse import urlsplit

from flask.testing import FlaskClient

from magicauth import guards
from magicauth.addresses import parse_email
from magicauth.extensions import db
from magicauth.models import User
from magicauth.sessions import this_session


def sign_in(client: FlaskClient, email: str = "ada@example.org", *, fresh: bool = True, **columns: Any) -> None:
    """Signs the client in to the account of `email` with these columns (`name`, `is_admin`, …); makes it, if there is
    none. Not `fresh`, it is told to say again who it is where that is wanted. Raises Invalid for what is no address,
    TypeError for what is no column, ValueError for a disabled account."""
    app = client.application
    base_url = app.config["PUBLIC_URL"] or "http://localhost"
    with app.test_request_context(base_url=base_url):
        canonical_email, typed = parse_email(email)
        user = User.by_email(canonical_email) or User(canonical_email=canonical_email, email=typed, name="")
        for name, value in columns.items():
            if name not in User.__table__.columns:
                raise TypeError(f"An account has no {name!r}.")
            setattr(user, name, value)
        if user.disabled:
            raise ValueError("The account is disabled: nobody signs in to it.")
        db.session.add(user)
        db.session.commit()
        guards.start_session(user, ["email"])
        if not fresh:
            this_session().keep(auth_time=time.time() - app.config["MAGICAUTH_FRESH_FOR"] - 1)
        app.process_response(app.make_response(""))
        session_id = this_session().sid
    client.set_cookie(app.config["SESSION_COOKIE_NAME"], session_id or "", domain=urlsplit(base_url).hostname or "")
