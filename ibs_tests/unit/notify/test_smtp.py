"""Mail, against a real server."""

from __future__ import annotations

from email import message_from_bytes
from typing import Any

import pytest
from aiosmtpd.smtp import AuthResult

from ibs.errors import FailedError
from ibs.notify import smtp
from ibs.wire.notification import TargetSecrets, TargetSpec
from ibs_tests.support.receivers import Mails, mail_server
from ibs_tests.unit.notify.test_message import EVIL, event


def spec(mails: Mails, **more: Any) -> TargetSpec:
    given = {"tls": "none", "sender": "ibs@example.com", "recipients": ["ops@example.com"]} | more
    return TargetSpec(kind="smtp", host="127.0.0.1", port=mails.port, **given)


def test_text_and_html_arrive_and_no_header_is_injected() -> None:
    with mail_server() as mails:
        smtp.send(spec(mails), TargetSecrets(), [event(EVIL)], "node")
    (recipients, content), *_ = mails.arrived
    assert recipients == ["ops@example.com"]
    message = message_from_bytes(content)
    assert message["Bcc"] is None
    assert [part.get_content_type() for part in message.walk()] == ["multipart/alternative", "text/plain", "text/html"]


def test_login_and_a_wrong_password_that_is_not_repeated() -> None:
    def check(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=(data.login, data.password) == (b"ops", b"right"), handled=False)

    with mail_server(authenticator=check, auth_require_tls=False) as mails:
        smtp.send(spec(mails, username="ops"), TargetSecrets(secret="right"), [event()], "node")
        with pytest.raises(FailedError, match="did not accept user and password") as failed:
            smtp.send(spec(mails, username="ops"), TargetSecrets(secret="wrong-one"), [event()], "node")
    assert "wrong-one" not in failed.value.message
    assert len(mails.arrived) == 1


def test_starttls_is_not_given_up_when_the_server_has_none() -> None:
    with mail_server() as mails, pytest.raises(FailedError, match="STARTTLS"):
        smtp.send(spec(mails, tls="starttls"), TargetSecrets(), [event()], "node")
    assert not mails.arrived


def test_a_server_that_is_not_there() -> None:
    with mail_server() as mails:
        pass
    with pytest.raises(FailedError, match="failed"):
        smtp.send(spec(mails), TargetSecrets(), [event()], "node")


def test_a_file_name_that_is_no_utf8_is_written_readably() -> None:
    event = {
        "time": "t",
        "source": "backup",
        "severity": "error",
        "kind": "k",
        "text": "x",
        "fields": {"path": "/a\udcff"},
    }
    spec = TargetSpec(kind="smtp", host="mx", sender="a@b.example", recipients=["d@e.example"])
    message = smtp.compose(spec, [event], "srv")
    part = message.get_body(("plain",))
    assert part is not None
    assert "path: /a\\udcff" in part.get_content()
    assert message.as_bytes()
