"""Every page and letter, each in the state in which people meet it: walked to, not rendered aside.

A wing is a function that leads a window from one to the next and yields the name of each.
"""

from collections.abc import Callable, Iterator
from typing import Any

from conftest import wait_for
from instruments import change_user
from pages import EMAIL, PASSWORD, sign_in

from browser.windows import FIREFOX, Site, Window, wrong

Wing = Callable[[Callable[..., Site], Callable[..., Window]], Iterator[tuple[str, Window]]]
Serve = Callable[..., Site]
Open = Callable[..., Window]

_OTHER = "grace@example.org"
_THIRD = "katherine@example.org"


def strangers(serve: Serve, open_window: Open) -> Iterator[tuple[str, Window]]:
    """Signing up and in."""
    site = serve()
    window = open_window(site=site)
    yield "sign_in", window.go("/auth")
    window.fill(Email="ada@example,org").button("Continue").evaluate("button => button.form.noValidate = true")
    yield "sign_in_refused", window.press("Continue").see("#error-summary")
    yield "sign_up", window.go("/auth").follow("Create an account").arrive("/users/magic_link")
    yield "sign_up_sent", window.fill(Email=EMAIL).press("Email me a link").arrive("/users/magic_link/sent")
    window.go(site.letter(EMAIL).links[0]).fill(Name="Ada Lovelace", Password="dragon lake")
    yield "sign_up_finish", window.see(".strength:has-text('Fair.')")
    window.fill(Password="lovelace").press("Create account")
    yield "sign_up_weak_password", window.see("#error-summary")
    window.fill(Password=PASSWORD).press("Create account").arrive("/home").press("Sign out").arrive("/auth")
    window.fill(Email=EMAIL).press("Continue").arrive("/verify")
    wait_for(lambda: site.letter(EMAIL).code)
    yield "verify", window.go("/verify")
    code = site.letter(EMAIL).code
    window.type_code(wrong(code))
    yield "verify_wrong_code", window.see("#error-summary")
    window.type_code(code)
    yield "password", window.arrive("/auth/password")
    window.fill(Password="not this one").press("Sign in")
    yield "password_wrong", window.see("#error-summary")
    yield "reset", window.follow("Forgot your password?").arrive("/auth/reset")
    window.fill(Email=EMAIL).press("Email me a code").arrive("/verify")
    window.type_code(site.letter(EMAIL).code)
    yield "reset_password", window.arrive("/auth/reset/password")


def waiting(serve: Serve, open_window: Open) -> Iterator[tuple[str, Window]]:
    """Codes and links that lead on, or no longer."""
    site = serve(MAGICAUTH_CODE_ATTEMPTS=1, MAGICAUTH_RESEND_AFTER=1)
    site.with_account()
    window = open_window(site=site)
    window.go("/auth").fill(Email="ada@yahoo.co.uk").press("Continue").arrive("/verify")
    yield "verify_webmail", window
    window.go("/auth").fill(Email=EMAIL).press("Continue").arrive("/verify")
    link = site.letter(EMAIL).links[0]
    elsewhere = open_window(site=site).go(link)
    yield "link_elsewhere", elsewhere
    elsewhere.fill(Email=_OTHER).press("Continue")
    yield "link_wrong_address", elsewhere.see("#error-summary")
    member = open_window(site=site).become(site.with_account(_OTHER)).go(link)
    yield "link_other_account", member
    window.type_code(wrong(site.letter(EMAIL).code))
    yield "verify_spent", window.see("#error-summary")
    yield "link_gone", window.go(link[:-4])


def members(serve: Serve, open_window: Open) -> Iterator[tuple[str, Window]]:
    """For those signed in."""
    site = serve(MAGICAUTH_FRESH_FOR=600)
    client = site.with_account()
    change_user(site.app, is_admin=True, phone="+44 20 7946 0958")
    client.post("/account", data={"name": "Ada Lovelace", "phone": "+44 20 7946 0958"})
    window = open_window(site=site).sign_in()
    yield "home", window
    yield "account", window.go("/account")
    window.press("Save")
    yield "account_saved", window.see("[role=status]")
    yield "account_email", window.go("/account/email")
    window.fill(New_email_address="ada@lovelace.example").press("Send the email").arrive("/verify")
    yield "verify_change_email", window
    yield "account_password", window.go("/account/password")
    window.fill(Current_password="not this", New_password="short").press("Save new password")
    yield "account_password_refused", window.see("#error-summary")
    yield "account_sessions", window.go("/account/sessions")
    yield "account_activity", window.go("/account/activity")
    yield "account_export", window.go("/account/export")
    yield "account_delete", window.go("/account/delete")
    for number, name in enumerate(("Grace Hopper", "Katherine Johnson", "Радия Перлман", "حوراء السيد", "山田 花子")):
        site.app.test_cli_runner().invoke(args=["users", "create", f"user{number}@example.org", "--name", name])
    yield "users", window.go("/users")


def confirming(serve: Serve, open_window: Open) -> Iterator[tuple[str, Window]]:
    """Saying again who one is, and links of warnings."""
    site = serve(MAGICAUTH_FRESH_FOR=1)
    window = open_window(site=site).become(site.with_account())
    wait_for(lambda: window.go("/account/delete").path == "/auth/fresh")
    yield "fresh", window
    yield "fresh_code", window.press("Email me a code instead").see("#OTP")
    site = serve()
    window = open_window(site=site).become(site.with_account(_THIRD))
    window.go("/account/email").fill(New_email_address=_OTHER).press("Send the email").arrive("/verify")
    window.type_code(site.letter(_OTHER).code).arrive("/account")
    yield "account_moved", window
    yield "email_undo", window.go(_letter(site, "was changed").link)
    open_window(site=site).sign_in(_OTHER)
    yield "not_me", window.go(_letter(site, "New sign-in").link)


def refusals(serve: Serve, open_window: Open) -> Iterator[tuple[str, Window]]:
    """What is refused, and how it is said."""
    site = serve(MAGICAUTH_SIGN_UP="invite", MAGICAUTH_LIMIT_MAILS_PER_IP="1 per hour")
    window = open_window(site=site)
    yield "error_404", window.go("/nowhere")
    yield "error_403", window.go("/users/magic_link")
    yield "error_400", window.go("/auth/link")
    yield "error_405", window.go("/logout")
    window.go("/auth").fill(Email=EMAIL).press("Continue").arrive("/verify").go("/auth").fill(Email=_OTHER).press(
        "Continue"
    )
    yield "error_429", window.see("#error-summary")
    window.go("/auth").fill(Email="x" * 70_000 + "@example.org").press("Continue")
    yield "error_413", window.see("[data-refused='413']")
    away = open_window(site=serve(REDIS_URL="redis://127.0.0.1:1"))
    away.go("/auth").fill(Email=EMAIL).press("Continue")
    yield "error_503", away.see("[data-refused='503']")


def letters(serve: Serve, open_window: Open) -> Iterator[tuple[str, Window]]:
    """Every letter, as the mailbox shows it alone; and the mailbox."""
    site = serve(MAGICAUTH_RESEND_AFTER=1, MAGICAUTH_CODE_ATTEMPTS=1, MAGICAUTH_LIMIT_MAILS_PER_ADDRESS="50 per hour")
    window = open_window(site=site)
    yield "mailbox_empty", window.go("/dev/mailbox")
    run: Callable[..., Any] = lambda *args: site.app.test_cli_runner().invoke(args=args)  # noqa: E731

    def newest() -> Window:
        return show_newest_letter(site, window)

    ada = site.app.test_client()
    ada.post("/users/magic_link", data={"email": EMAIL})
    yield "letter_sign_up", newest()
    ada.post("/users/signup", data={"token": site.letter(EMAIL).token, "name": "Ada Lovelace", "password": PASSWORD})
    ada.post("/logout")
    ada.post("/users/magic_link", data={"email": EMAIL})
    yield "letter_has_account", newest()
    ada.post("/auth", data={"email": _OTHER})
    yield "letter_no_account", newest()
    ada.post("/auth/reset", data={"email": EMAIL})
    yield "letter_reset", newest()
    ada.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    yield "letter_sign_in", newest()
    ada.post("/verify", data={"OTP": wrong(site.letter(EMAIL).code)})
    yield "letter_codes_used_up", newest()
    run("users", "sign-out", EMAIL)
    yield "letter_sessions_ended", newest()
    other = site.app.test_client()
    other.environ_base["HTTP_USER_AGENT"] = FIREFOX
    sign_in(other)
    yield "letter_new_browser", newest()
    other.post("/account/password", data={"old_password": PASSWORD, "password": PASSWORD + "!"})
    yield "letter_password_changed", newest()
    other.post("/account/email", data={"email": "ada@lovelace.example"})
    yield "letter_change_email", newest()
    other.post("/verify", data={"OTP": site.letter().code})
    yield "letter_email_changed", newest()
    ada.post(site.letter().link)
    yield "letter_email_undone", newest()
    run("users", "invite", "katherine@example.org")
    yield "letter_invitation", newest()
    run("mail", "send-test", "katherine@example.org")
    yield "letter_test", newest()
    run("users", "create", "mary@example.org")
    run("users", "disable", "mary@example.org")
    ada.post("/auth", data={"email": "mary@example.org"})
    yield "letter_disabled_account", newest()
    run("users", "delete", "mary@example.org", "--yes")
    yield "letter_account_deleted", newest()
    yield "mailbox", window.go("/dev/mailbox")


def show_newest_letter(site: Site, window: Window) -> Window:
    """Opens the letter alone, as a mail program would show it."""
    site.letter()
    return window.go(f"/dev/mailbox/{site.app.extensions['magicauth-mailbox'].all()[0].id}")


def _letter(site: Site, subject: str) -> Any:
    return next(letter for letter in site.mailbox.all() if subject in letter.subject)


WINGS: tuple[Wing, ...] = (strangers, waiting, members, confirming, refusals, letters)
