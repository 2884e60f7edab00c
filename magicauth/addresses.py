"""The grammar of e-mail addresses: which are taken, which are the same, and which count as one."""

from flask import current_app

from magicauth.errors import N_, Invalid

EMAIL_LENGTH = 254


def parse_email(typed: str) -> tuple[str, str]:
    """The canonical form of an address (the unique key) and the form it was typed in, without surrounding space.

    Raises Invalid. The local part is ASCII, so that no two addresses look alike; no display name, no second address.
    """
    # Imported here: its tables take long to load, and a process that starts need not wait for them.
    from email_validator import EmailNotValidError, validate_email

    # Space around it is pasted by accident; a line break, even there, would write headers, and is not forgiven.
    typed = typed.strip(" \u00a0\u3000")
    if not typed:
        raise Invalid(N_("Email required."), errors={"email": [N_("Email required.")]})
    try:
        # Before the parser sees it, whose view of such characters may differ.
        if not typed.isprintable() or len(typed) > EMAIL_LENGTH:
            raise EmailNotValidError
        development = current_app.config["MAGICAUTH_MODE"] == "development"
        localhost = development and typed.lower().endswith("@localhost")
        address = validate_email(
            f"{typed}.test" if localhost else typed,
            allow_smtputf8=False,
            allow_quoted_local=False,
            allow_domain_literal=False,
            strict=True,
            check_deliverability=False,
            test_environment=development,
        )
    except (EmailNotValidError, UnicodeError):
        raise Invalid(N_("Email is invalid."), errors={"email": [N_("Email is invalid.")]}) from None
    domain = "localhost" if localhost else address.ascii_domain.lower()
    return f"{address.local_part.lower()}@{domain}", f"{address.local_part}@{domain}"


def canonical_for_counting(email: str) -> str:
    """`email` with `+tag`, and Gmail's dots, folded away: for counting only, never for finding an account."""
    local, _, domain = email.rpartition("@")
    local = local.partition("+")[0] or local
    if domain in ("gmail.com", "googlemail.com"):
        local, domain = local.replace(".", "") or local, "gmail.com"
    return f"{local}@{domain}"
