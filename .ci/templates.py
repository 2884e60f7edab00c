"""Compiles every template with the app's own filters and functions: a typing mistake fails here, not on its page."""

from magicauth import create_app

NO_DOORS_OPENED = {
    "MAGICAUTH_MODE": "production",
    "MAGICAUTH_MAIL_WORKER": "external",
    "SECRET_KEY": "x" * 32,
    "PUBLIC_URL": "http://localhost",
    "DATABASE_URL": "sqlite://",
    "REDIS_URL": "redis://localhost",
    "MAIL_SERVER": "localhost",
}

templates = create_app(NO_DOORS_OPENED).jinja_env
# Each is there once more as `magicauth/…`, for templates that replace it.
names = templates.list_templates(filter_func=lambda name: not name.startswith("magicauth/"))
for name in names:
    templates.get_template(name)
print(f"{len(names)} templates compile")
