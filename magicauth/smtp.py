"""The mail server: Flask-Mail's connection with what it lacks, one kept for many letters, and what its answers mean."""

import smtplib
import ssl
import threading
import time
from typing import Any

import flask_mail
from flask import current_app

_SMTP_TIMEOUT = 10.0
# For a whole reply: one that comes in drips would hold the thread for ever.
_REPLY_MOST = 30.0
# Mail servers close connections that say nothing; a letter is not given to one that may just be closing.
_CONNECTION_IDLE = 5.0


class _Replies:
    """What a mail server says, line by line, until `ends` by the monotonic clock: smtplib's time-out begins anew with
    each byte."""

    def __init__(self, sock: Any) -> None:
        self._sock, self._read = sock, b""
        self.ends = 0.0

    def readline(self, most: int) -> bytes:
        """As a file's. Raises TimeoutError."""
        while b"\n" not in self._read and len(self._read) < most:
            left = self.ends - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            self._sock.settimeout(min(left, _SMTP_TIMEOUT))
            if not (more := self._sock.recv(most)):
                break
            self._read += more
        end = min(self._read.find(b"\n") + 1 or most, most)
        line, self._read = self._read[:end], self._read[end:]
        return line

    def close(self) -> None:
        """Nothing: the socket is closed by whoever opened it."""


class _Bounded(smtplib.SMTP):
    """smtplib's conversation, in which each reply ends in time whatever the server says."""

    def getreply(self) -> tuple[int, bytes]:
        """The server's next reply. Raises SMTPServerDisconnected."""
        if self.file is None:
            self.file: Any = _Replies(self.sock)
        self.file.ends = time.monotonic() + _REPLY_MOST
        try:
            return super().getreply()
        finally:
            if self.sock is not None:
                self.sock.settimeout(_SMTP_TIMEOUT)


class _BoundedOverTls(_Bounded, smtplib.SMTP_SSL):
    """The same, encrypted from the start."""


class MailConnection(flask_mail.Connection):
    """Flask-Mail's connection with what it lacks: a time-out, and certificates that are checked."""

    host: _Bounded

    def send(self, message: flask_mail.Message, envelope_from: Any = None) -> None:
        """Sends a letter whose addresses are as SMTP wants them: Flask-Mail's parses each again, which took as long as
        all else. Raises BadHeaderError, SMTPException or OSError."""
        if message.has_bad_headers():
            raise flask_mail.BadHeaderError
        self.host.sendmail(
            str(envelope_from or message.sender), [str(to) for to in message.recipients], message.as_bytes()
        )
        flask_mail.email_dispatched.send(current_app._get_current_object(), message=message)  # type: ignore[attr-defined]

    def configure_host(self) -> _Bounded:
        """An SMTP connection, logged in. Raises OSError or SMTPException."""
        mail = self.mail
        host: _Bounded
        if mail.use_ssl:
            context = ssl.create_default_context()
            host = _BoundedOverTls(mail.server, mail.port, timeout=_SMTP_TIMEOUT, context=context)
        else:
            host = _Bounded(mail.server, mail.port, timeout=_SMTP_TIMEOUT)
        try:
            if mail.use_tls:
                host.starttls(context=ssl.create_default_context())
            if mail.username and mail.password:
                host.login(mail.username, mail.password)
        except BaseException:
            host.close()
            raise
        return host


class PostOffice:
    """Hands messages to the SMTP server; each thread keeps one connection for many of them."""

    def __init__(self) -> None:
        self._here = threading.local()

    def deliver(self, message: flask_mail.Message) -> None:
        """Sends `message` to the server that was just reached. Raises SMTPException or OSError."""
        try:
            self._here.connection.send(message)
        except BaseException:
            self.hang_up()
            raise
        self._here.used = time.monotonic()

    def hang_up(self) -> None:
        """Closes the connection of this thread, if there is one."""
        connection = self._here.__dict__.pop("connection", None)
        if connection is not None:
            connection.host.close()

    def reach(self) -> None:
        """Sees that the server is there. Raises SMTPException or OSError."""
        connection: MailConnection | None = getattr(self._here, "connection", None)
        if connection is not None and (
            time.monotonic() - self._here.used > _CONNECTION_IDLE or not _answers(connection.host)
        ):
            self.hang_up()
            connection = None
        if connection is None:
            connection = MailConnection(current_app.extensions["mail"])
            connection.host = connection.configure_host()
            self._here.connection = connection
            self._here.used = time.monotonic()


def worth_a_retry(error: Exception) -> bool:
    """Whether the mail server may take the letter later: everything but its own final no (SMTP 5xx)."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(code < 500 for code, _ in error.recipients.values())
    if isinstance(error, smtplib.SMTPConnectError | smtplib.SMTPHeloError | smtplib.SMTPAuthenticationError):
        # Wrong for every letter until an operator mends it; the letters are not to blame.
        return True
    if isinstance(error, smtplib.SMTPResponseException):
        return error.smtp_code < 500
    return True


def _answers(host: _Bounded) -> bool:
    try:
        return bool(host.noop()[0] == 250)
    except (smtplib.SMTPException, OSError):
        return False
