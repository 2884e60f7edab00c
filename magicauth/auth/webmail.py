"""Where people of well-known mail domains read their mail."""

_WEBMAIL = {
    "Gmail": ("https://mail.google.com/", ("gmail.com", "googlemail.com")),
    "Outlook": ("https://outlook.live.com/mail/", ("outlook.com", "hotmail.com", "live.com", "msn.com")),
    "Yahoo Mail": ("https://mail.yahoo.com/", ("yahoo.com", "ymail.com", "rocketmail.com")),
    "iCloud Mail": ("https://www.icloud.com/mail", ("icloud.com", "me.com", "mac.com")),
    "Proton Mail": ("https://mail.proton.me/", ("proton.me", "protonmail.com", "pm.me")),
    "Fastmail": ("https://app.fastmail.com/", ("fastmail.com", "fastmail.fm")),
    "GMX": ("https://www.gmx.net/", ("gmx.net", "gmx.de", "gmx.at", "gmx.ch")),
    "WEB.DE": ("https://web.de/", ("web.de",)),
    "Zoho Mail": ("https://mail.zoho.com/", ("zoho.com", "zohomail.com")),
}
_BY_DOMAIN = {domain: (name, url) for name, (url, domains) in _WEBMAIL.items() for domain in domains}


def webmail(email: str) -> tuple[str, str] | None:
    """Name and address of the webmail of an address, if its domain is a known one."""
    return _BY_DOMAIN.get(email.rpartition("@")[2])
