"""Sends a message by SMTP. Used by `services`; blocks, so it runs in the pool.

The standard library's client, with a time limit on every step; headers are built by `email`, which refuses line breaks.
"""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import make_msgid

from ibs.core import limits_notify
from ibs.errors import FailedError
from ibs.notify.message import EventJson, Sent, hypertext, plain, subject
from ibs.wire.notification import TargetSecrets, TargetSpec

_PORTS = {"starttls": 587, "implicit": 465, "none": 25}


def send(spec: TargetSpec, secrets: TargetSecrets, events: Sequence[EventJson], server: str) -> Sent:
    """Hand the message to the mail server for all recipients. Raises FailedError: not sent, or not to everybody."""
    message = compose(spec, events, server)
    port = spec.port or _PORTS[spec.tls]
    try:
        with _connect(spec, port) as smtp:
            if spec.username:
                smtp.login(spec.username, secrets.secret)
            refused = smtp.send_message(message)
    except (smtplib.SMTPException, OSError, ValueError) as error:
        raise FailedError(f"mail by {spec.host}:{port} failed: {_why(error)}") from error
    if refused:
        raise FailedError(f"{spec.host}:{port} refused some recipients: {', '.join(sorted(refused))}")
    return Sent(message.as_string())


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


def _connect(spec: TargetSpec, port: int) -> smtplib.SMTP:
    tls = ssl.create_default_context(cadata=spec.ca or None)
    if spec.tls == "implicit":
        return smtplib.SMTP_SSL(spec.host, port, timeout=limits_notify.SEND_SECONDS, context=tls)
    smtp = smtplib.SMTP(spec.host, port, timeout=limits_notify.SEND_SECONDS)
    try:
        if spec.tls == "starttls":
            smtp.starttls(context=tls)
    except BaseException:
        smtp.close()
        raise
    return smtp


def _why(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        parts = [f"{who}: {code} {_text(said)}" for who, (code, said) in error.recipients.items()]
        return "; ".join(parts)[:500]
    if isinstance(error, smtplib.SMTPAuthenticationError):  # its text may repeat what was sent
        return f"{error.smtp_code} the server did not accept user and password"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{error.smtp_code} {_text(error.smtp_error)}"[:500]
    return str(error)[:500] or type(error).__name__


def _text(said: bytes | str) -> str:
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else said
