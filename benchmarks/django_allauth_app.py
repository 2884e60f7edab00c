"""django-allauth with stock settings: login by a mailed code, sessions in Redis by Django's cache."""

import os
from types import SimpleNamespace
from typing import Any

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="a benchmark's key, which protects nothing at all",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": f"{os.environ['BENCHMARK_FOLDER']}/django_allauth.sqlite3",
            # Kept open, as SQLAlchemy does.
            "CONN_MAX_AGE": None,
        }
    },
    CACHES={"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": os.environ["REDIS_URL"]}},
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "allauth",
        "allauth.account",
    ],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
        "allauth.account.middleware.AccountMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
    AUTHENTICATION_BACKENDS=["allauth.account.auth_backends.AuthenticationBackend"],
    ACCOUNT_LOGIN_METHODS={"email"},
    ACCOUNT_SIGNUP_FIELDS=["email*"],
    ACCOUNT_USER_MODEL_USERNAME_FIELD=None,
    ACCOUNT_LOGIN_BY_CODE_ENABLED=True,
    ACCOUNT_RATE_LIMITS=False,
    LOGIN_REDIRECT_URL="/home",
    EMAIL_HOST="127.0.0.1",
    EMAIL_PORT=int(os.environ["MAIL_PORT"]),
    USE_TZ=True,
)
django.setup()

from allauth.account.models import EmailAddress
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

from benchmarks.contestants import flask_with_our_templates
from benchmarks.counting import counted
from benchmarks.people import PEOPLE

_flask = flask_with_our_templates()


@login_required
def home(request: HttpRequest) -> HttpResponse:
    """Our guarded page, rendered as ours is."""
    user = SimpleNamespace(
        name="Ada", email=request.user.email, has_password=False, created_at=request.user.date_joined
    )
    here = SimpleNamespace(path="/home", query_string="", method="GET")
    page = _flask.jinja_env.get_template("account/home.html")
    return HttpResponse(page.render(user=user, request=here, lang="en", dir="ltr", typed={}, config=_flask.config))


urlpatterns = [
    path("accounts/", include("allauth.account.urls")),
    path("home", home),
    path("healthz", lambda _: HttpResponse("well")),
]


class _App:
    """What gunicorn.conf.py asks an app for."""

    def __init__(self) -> None:
        self.wsgi_app: Any = get_wsgi_application()
        self.config, self.extensions = _flask.config, _flask.extensions

    def __call__(self, environ: Any, start_response: Any) -> Any:
        return self.wsgi_app(environ, start_response)


def app() -> _App:
    """The app, with people."""
    call_command("migrate", verbosity=0)
    for number in range(PEOPLE):
        user, new = User.objects.get_or_create(username=f"user{number}", email=f"user{number}@example.com")
        if new:
            EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    return counted(_App())
