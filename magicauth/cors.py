"""A separate front end of the same site may call the JSON endpoints: exactly MAGICAUTH_ALLOWED_ORIGINS, nobody else."""

import re

from flask import Flask, Response, request

_PREFLIGHT_LIFE = 600


def init_app(app: Flask) -> None:
    """Answers preflights and names the origin, with credentials, on answers to it. Without origins all stays closed."""
    origins = app.config["MAGICAUTH_ALLOWED_ORIGINS"]
    if not origins:
        return
    # Most sites name none, and need not load it.
    from flask_cors import CORS

    CORS(
        app,
        # Patterns of ours: the library takes the brackets of an IPv6 address for one, and looks at its beginning alone.
        origins=[re.compile(rf"{re.escape(origin)}\Z") for origin in origins],
        supports_credentials=True,
        # Ours answer the first two; the others are for a site's own.
        methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=["Content-Type"],
        expose_headers=["Retry-After"],
        max_age=_PREFLIGHT_LIFE,
        always_send=False,
    )

    @app.before_request
    def answer_preflight() -> Response | None:
        # Of an address that is none, too: a browser shows a front end no other answer after one that is refused, and a
        # 404 would look like a site that is away.
        if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
            return None
        view = app.view_functions.get(request.endpoint or "")
        # A site's own views may have other answers.
        is_theirs = view is not None and not view.__module__.startswith("magicauth.")
        return None if is_theirs else app.make_default_options_response()

    @app.after_request
    def vary(response: Response) -> Response:
        # The library leaves it out where one origin is allowed, and a shared cache would serve its answer to others.
        response.vary.add("Origin")
        return response
