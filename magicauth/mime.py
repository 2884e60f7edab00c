"""A letter as mail carries it: two texts as alternatives, and headers encoded where they must be."""

import secrets
from email.header import Header
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.policy import Compat32
from email.utils import formatdate, quote

import flask_mail


class _AsEncoded(Compat32):
    """Writes headers as they stand. Python's other policies parse and fold each anew, which took a third of a letter's
    time, and before 3.13 lost the quotes of a sender's name on the way, so that a comma in it made two senders."""

    def fold_binary(self, name: str, value: str) -> bytes:
        """A whole header. Raises UnicodeEncodeError for one that was not encoded."""
        return f"{name}: {value}\r\n".encode("ascii")


_AS_ENCODED = _AsEncoded(linesep="\r\n", mangle_from_=False)


class Message(flask_mail.Message):
    """Flask-Mail's message with multipart/alternative as its root, without the multipart/mixed around it."""

    def _message(self) -> MIMEMultipart:
        # No line of base64 is this one.
        message = MIMEMultipart("alternative", boundary=f"=_{secrets.token_hex(16)}", policy=_AS_ENCODED)
        for text, subtype in ((self.body, "plain"), (self.html, "html")):
            message.attach(MIMEText(text or "", subtype, "utf-8"))
        headers = {
            "Subject": _encoded(self.subject),
            "To": str(self.recipients[0]),
            "Date": formatdate(self.date),
            "Message-ID": self.msgId,
        }
        for name, value in (headers | (self.extra_headers or {})).items():
            message[name] = value
        return message


def phrase(name: str) -> str:
    """A name before an address: quoted, so that a comma in it does not end it; or encoded, where it is not ASCII."""
    return f'"{quote(name)}"' if name.isascii() else _encoded(name)


def _encoded(words: str) -> str:
    """Words of a header as mail carries them (RFC 2047)."""
    return words if words.isascii() else Header(words, "utf-8", header_name="Subject").encode(linesep="\r\n")
