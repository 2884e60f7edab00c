"""Where people of well-known mail domains read their mail."""

import re

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
# Those with a domain for each country: yahoo.co.uk, outlook.fr.
_OF_COUNTRIES = re.compile(r"(yahoo|outlook|hotmail|live)\.(com?\.)?[a-z]{2}")
_BY_DOMAIN = {domain: (name, url) for name, (url, domains) in _WEBMAIL.items() for domain in domains}


def webmail(email: str) -> tuple[str, str] | None:
    """Name and address of the webmail of an address, if its domain is a known one."""
    domain = email.rpartition("@")[2]
    of_country = _OF_COUNTRIES.fullmatch(domain)
    return _BY_DOMAIN.get(f"{of_country[1]}.com" if of_country else domain)
