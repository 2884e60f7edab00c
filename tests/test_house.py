"""What may not grow unseen: every route with its guard, every setting, command and recorded action.

A line added here is a line that somebody read: an open door stands out. Each list is in alphabetical order.
"""

from collections.abc import Iterator

import click
from flask import Flask
from production import production

from magicauth.config import SETTINGS
from magicauth.models import Action

ROUTES = """
GET  /                            open
GET  /.well-known/change-password open
GET  /accent.css                  open
GET  /account                     login_required
POST /account                     login_required
GET  /account/activity            login_required
GET  /account/delete              fresh_sign_in_required
POST /account/delete              fresh_sign_in_required
GET  /account/email               fresh_sign_in_required
POST /account/email               fresh_sign_in_required
GET  /account/email/undo          open
POST /account/email/undo          open
GET  /account/export              fresh_sign_in_required
GET  /account/export.json         fresh_sign_in_required
GET  /account/password            fresh_sign_in_required
POST /account/password            fresh_sign_in_required
GET  /account/sessions            login_required
POST /account/sessions/end        fresh_sign_in_required
POST /account/sessions/end_others fresh_sign_in_required
GET  /auth                        open
POST /auth                        open
GET  /auth/fresh                  login_required
POST /auth/fresh                  login_required
POST /auth/fresh/code             login_required
GET  /auth/link                   open
POST /auth/link                   open
GET  /auth/not_me                 open
POST /auth/not_me                 open
GET  /auth/password               open
POST /auth/password               open
POST /auth/password/strength      open
GET  /auth/reset                  open
POST /auth/reset                  open
GET  /auth/reset/password         open
POST /auth/reset/password         open
GET  /healthz                     open
GET  /home                        login_required
POST /language                    open
POST /logout                      login_required
GET  /metrics                     open
GET  /readyz                      open
GET  /users                       admin_required
GET  /users/magic_link            open
POST /users/magic_link            open
GET  /users/magic_link/sent       open
GET  /users/signup                open
POST /users/signup                open
GET  /verify                      open
POST /verify                      open
POST /verify/resend               open
"""
# Not registered in production.
ROUTES_OF_DEVELOPMENT = """
GET  /dev/mailbox                 open
GET  /dev/mailbox/<name>          open
"""
NAMES_OF_SETTINGS = """
DATABASE_URL
MAGICAUTH_ACCENT
MAGICAUTH_ALLOWED_ORIGINS
MAGICAUTH_CODE_ATTEMPTS
MAGICAUTH_CODE_DIGITS
MAGICAUTH_FRESH_FOR
MAGICAUTH_LIMIT_CODES_GLOBAL
MAGICAUTH_LIMIT_CODES_PER_ACCOUNT
MAGICAUTH_LIMIT_CODES_PER_IP
MAGICAUTH_LIMIT_MAILS_GLOBAL
MAGICAUTH_LIMIT_MAILS_PER_ADDRESS
MAGICAUTH_LIMIT_MAILS_PER_IP
MAGICAUTH_LIMIT_PASSWORDS_GLOBAL
MAGICAUTH_LIMIT_PASSWORDS_PER_ACCOUNT
MAGICAUTH_LIMIT_PASSWORDS_PER_IP
MAGICAUTH_MAIL_WORKER
MAGICAUTH_METRICS_TOKEN
MAGICAUTH_MODE
MAGICAUTH_PASSWORDS
MAGICAUTH_REMEMBER_ABSOLUTE
MAGICAUTH_REMEMBER_IDLE
MAGICAUTH_RESEND_AFTER
MAGICAUTH_RESET_TTL
MAGICAUTH_SESSION_ABSOLUTE
MAGICAUTH_SESSION_IDLE
MAGICAUTH_SIGN_IN_TTL
MAGICAUTH_SIGN_UP
MAGICAUTH_SIGN_UP_TTL
MAGICAUTH_SITE_NAME
MAGICAUTH_TRUSTED_PROXIES
MAIL_DEFAULT_SENDER
MAIL_PASSWORD
MAIL_PORT
MAIL_SERVER
MAIL_USERNAME
MAIL_USE_SSL
MAIL_USE_TLS
PUBLIC_URL
REDIS_URL
SECRET_KEY
SECRET_KEY_FALLBACKS
"""
COMMANDS = """
audit [--action --json --limit --result --since --user]
doctor [--json]
mail retry
mail send-test EMAIL
mail status [--json]
mail worker [--threads]
sessions list EMAIL [--json]
users create EMAIL [--admin --name --password-stdin]
users delete EMAIL [--yes]
users demote EMAIL
users disable EMAIL
users enable EMAIL
users invite EMAIL
users list [--json]
users promote EMAIL
users show EMAIL [--json]
users sign-out EMAIL
"""
ACTIONS = """
operator:invited
operator:user:created
operator:user:demoted
operator:user:disabled
operator:user:enabled
operator:user:promoted
user:codes:used_up
user:confirmed
user:deleted
user:email:changed
user:email:undone
user:exported
user:not_me
user:password:changed
user:password:reset
user:profile:changed
user:session:ended
user:sessions:ended
user:sign_in:refused
user:signed_in
user:signed_out
user:signed_up
"""


def _routes(app: Flask) -> list[str]:
    return sorted(
        f"{method} {rule.rule} {getattr(app.view_functions[rule.endpoint], 'guard', 'open')}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    )


def _commands(group: click.Group, path: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path}{name} ")
        elif name != "db":
            # Those of `flask db` are Flask-Migrate's.
            arguments = [one.name.upper() for one in command.params if isinstance(one, click.Argument)]
            options = " ".join(sorted(one.opts[0] for one in command.params if isinstance(one, click.Option)))
            yield " ".join([path + name, *arguments, *([f"[{options}]"] if options else [])])


def _pinned(text: str) -> list[str]:
    return sorted(" ".join(line.split()) for line in text.strip().splitlines())


def test_every_route_is_pinned_with_its_guard(app):
    assert _routes(app) == sorted(_pinned(ROUTES) + _pinned(ROUTES_OF_DEVELOPMENT))


def test_production_has_no_door_of_development(make_new_app, tmp_path):
    assert _routes(production(make_new_app, tmp_path)) == _pinned(ROUTES)


def test_everything_of_an_account_is_guarded_but_what_a_mailed_link_opens():
    account = [line for line in _pinned(ROUTES) if line.split()[1].startswith(("/account", "/home"))]
    assert [line.split()[1] for line in account if line.endswith("open")] == ["/account/email/undo"] * 2


def test_every_setting_is_pinned():
    assert sorted(setting.name for setting in SETTINGS) == _pinned(NAMES_OF_SETTINGS)


def test_every_command_is_pinned(app):
    assert sorted(_commands(app.cli)) == _pinned(COMMANDS)


def test_every_recorded_action_is_pinned():
    assert sorted(action.value for action in Action) == _pinned(ACTIONS)
