"""Sends a message by SMTP. Used by `services`; blocks, so it runs in the pool, in the lane for conversations.

The standard library's client, with a time limit on every step; `Mailer.abort`, called from another thread, ends a
conversation that takes too long all in all. Headers are built by `email`, which refuses line breaks. The TLS context
is the caller's: it trusts what the target's settings say.
"""

from __future__ import annotations

import contextlib
import smtplib
import socket
import ssl
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from email.utils import make_msgid

from ibs.core import limits_notify
from ibs.errors import FailedError, IbsError
from ibs.notify.message import EventJson, Sent, hypertext, plain, subject
from ibs.wire.notification import TargetSecrets, TargetSpec

_PORTS = {"starttls": 587, "implicit": 465, "none": 25}


class Mailer:
    """One delivery."""

    def __init__(self, spec: TargetSpec, tls: ssl.SSLContext) -> None:
        self._spec, self._tls = spec, tls
        self._port = spec.port or _PORTS[spec.tls]
        self._line: socket.socket | None = None
        self._aborted = False

    def send(self, secrets: TargetSecrets, events: Sequence[EventJson], server: str) -> Sent:
        """Hand the message to the mail server for all recipients.

        Raises FailedError: not sent, or some recipients may be taken later (the others get it again then); with
        `permanent` when the server said it never will be.
        """
        spec, message = self._spec, compose(self._spec, events, server)
        try:
            with _Conversation(self, self._tls, implicit=spec.tls == "implicit") as smtp:
                smtp.meet(spec.host, self._port)
                if spec.tls == "starttls":
                    smtp.starttls(context=self._tls)
                if spec.username:
                    smtp.login(spec.username, secrets.secret)
                refused = smtp.send_message(message)
        except IbsError as error:  # another certificate than the pinned one
            raise FailedError(f"mail by {self._place} failed: {error.message}", permanent=True) from error
        except (smtplib.SMTPException, OSError, ValueError) as error:
            told = f"mail by {self._place} failed: {_why(error)}"
            raise FailedError(told, permanent=_is_permanent(error)) from error
        told = _refusals(refused)
        if not all(500 <= code < 600 for code, _ in refused.values()):
            raise FailedError(f"{self._place} does not take the message for all yet: {told}", permanent=False)
        return Sent(message.as_string(), refused=told)

    def abort(self) -> None:
        """End the conversation, whatever it is waiting for; from any thread, at any time."""
        self._aborted = True
        if self._line is not None:
            with contextlib.suppress(OSError):
                self._line.shutdown(socket.SHUT_RDWR)

    def opened(self, line: socket.socket) -> None:
        """For the conversation: this is where `abort` reaches it. TLS takes the descriptor over, so it is doubled."""
        self._line = line.dup()
        if self._aborted:
            self.abort()

    def closed(self) -> None:
        """For the conversation: it is over."""
        line, self._line = self._line, None
        if line is not None:
            line.close()

    @property
    def _place(self) -> str:
        return f"{self._spec.host}:{self._port}"


class _Conversation(smtplib.SMTP):
    """The library's client, that tells which socket it uses, and speaks TLS from the first byte where wanted."""

    def __init__(self, mailer: Mailer, tls: ssl.SSLContext, *, implicit: bool) -> None:
        super().__init__(timeout=limits_notify.SEND_SECONDS)
        self._mailer, self._tls, self._implicit = mailer, tls, implicit

    def meet(self, host: str, port: int) -> None:
        """Connect, and hear the greeting. Raises SMTPConnectError, OSError."""
        self._host = host  # what STARTTLS compares the certificate with
        code, said = self.connect(host, port)
        if code != 220:
            raise smtplib.SMTPConnectError(code, said)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        line = socket.create_connection((host, port), timeout)
        try:
            self._mailer.opened(line)
            return self._tls.wrap_socket(line, server_hostname=host) if self._implicit else line
        except BaseException:
            line.close()
            raise

    def close(self) -> None:
        super().close()
        self._mailer.closed()


def compose(spec: TargetSpec, events: Sequence[EventJson], server: str) -> EmailMessage:
    """The message, as text and as HTML."""
    message = EmailMessage()
    message["Subject"] = subject(events, server)
    message["From"] = spec.sender
    message["To"] = ", ".join(spec.recipients)
    message["Message-ID"] = make_msgid(domain="ironcore-backup.invalid")
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(_sayable(plain(events, server)))
    message.add_alternative(_sayable(hypertext(events, server)), subtype="html")
    return message


def _sayable(text: str) -> str:
    """File names may hold bytes that are no UTF-8, which no mail can carry as they are."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _is_permanent(error: Exception) -> bool:
    """RFC 5321, 4.2.1: what begins with 5 will be answered the same next time."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(500 <= code < 600 for code, _ in error.recipients.values())
    if isinstance(error, smtplib.SMTPResponseException):
        return 500 <= error.smtp_code < 600
    return isinstance(error, ssl.SSLCertVerificationError | smtplib.SMTPNotSupportedError)


def _why(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return _refusals(error.recipients)
    if isinstance(error, smtplib.SMTPAuthenticationError):  # its text may repeat what was sent
        return f"{error.smtp_code} the server did not accept user and password"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{error.smtp_code} {_text(error.smtp_error)}"[:500]
    return str(error)[:500] or type(error).__name__


def _refusals(recipients: Mapping[str, tuple[int, bytes | str]]) -> str:
    return "; ".join(f"{who}: {code} {_text(said)}" for who, (code, said) in sorted(recipients.items()))[:500]


def _text(said: bytes | str) -> str:
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else said
