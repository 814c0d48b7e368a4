"""Mail, against a real server."""

from __future__ import annotations

import ssl
import threading
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import AuthResult

from ibs.errors import FailedError
from ibs.notify import smtp
from ibs.notify.message import EventJson, Sent
from ibs.security import tls
from ibs.security.pinning import pinned_context
from ibs.wire.notification import TargetSecrets, TargetSpec
from ibs_tests.support.control import Certificates
from ibs_tests.support.receivers import Mails, dripping, dying_in_data, mail_server
from ibs_tests.unit.notify.test_message import EVIL, event


def spec(mails: Mails, **more: Any) -> TargetSpec:
    given = {"tls": "none", "sender": "ibs@example.com", "recipients": ["ops@example.com"]} | more
    return TargetSpec(kind="smtp", host="127.0.0.1", port=mails.port, **given)


def send(
    target: TargetSpec,
    secrets: TargetSecrets | None = None,
    events: tuple[EventJson, ...] = (),
    trusted: ssl.SSLContext | None = None,
) -> Sent:
    context = trusted or ssl.create_default_context(cadata=target.ca or None)
    return smtp.Mailer(target, context).send(secrets or TargetSecrets(), events or (event(),), "node")


def test_text_and_html_arrive_and_no_header_is_injected() -> None:
    with mail_server() as mails:
        send(spec(mails), events=(event(EVIL),))
    (recipients, content), *_ = mails.arrived
    assert recipients == ["ops@example.com"]
    message = message_from_bytes(content)
    assert message["Bcc"] is None
    assert [part.get_content_type() for part in message.walk()] == ["multipart/alternative", "text/plain", "text/html"]


def test_login_and_a_wrong_password_that_is_not_repeated() -> None:
    def check(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=(data.login, data.password) == (b"ops", b"right"), handled=False)

    with mail_server(authenticator=check, auth_require_tls=False) as mails:
        send(spec(mails, username="ops"), TargetSecrets(secret="right"))
        with pytest.raises(FailedError, match="did not accept user and password") as failed:
            send(spec(mails, username="ops"), TargetSecrets(secret="wrong-one"))
    assert "wrong-one" not in failed.value.message
    assert len(mails.arrived) == 1


def test_starttls_is_not_given_up_when_the_server_has_none() -> None:
    with mail_server() as mails, pytest.raises(FailedError, match="STARTTLS"):
        send(spec(mails, tls="starttls"))
    assert not mails.arrived


def test_a_server_that_is_not_there() -> None:
    with mail_server() as mails:
        pass
    with pytest.raises(FailedError, match="failed"):
        send(spec(mails))


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


def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
    return AuthResult(success=(data.login, data.password) == (b"ops", b"right"), handled=False)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates.make(tmp_path)


@pytest.fixture
def authority(certificates: Certificates, tmp_path: Path) -> str:
    """The server's own certificate, to be trusted as such."""
    pem = (tmp_path / tls.FILE).read_text()
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    return pem[pem.index(begin) : pem.index(end) + len(end)] + "\n"


@pytest.mark.parametrize("without", ["LOGIN", "PLAIN"])
@pytest.mark.parametrize("kind", ["starttls", "implicit"])
def test_over_tls_with_either_way_to_log_in(
    kind: str, without: str, certificates: Certificates, authority: str
) -> None:
    options = {"tls_context": certificates.server} if kind == "starttls" else {"ssl_context": certificates.server}
    inside = kind == "starttls"  # the test's server does not count TLS from the first byte as such
    login = {"authenticator": authenticate, "auth_required": inside, "auth_require_tls": inside}
    with mail_server(**login, auth_exclude_mechanism=[without], **options) as mails:
        target = spec(mails, tls=kind, username="ops", ca=authority)
        send(target, TargetSecrets(secret="right"))
        with pytest.raises(FailedError, match="did not accept"):
            send(target, TargetSecrets(secret="wrong"))
    assert len(mails.arrived) == 1


@pytest.mark.parametrize("kind", ["starttls", "implicit"])
def test_an_unknown_certificate_hears_neither_password_nor_message(kind: str, certificates: Certificates) -> None:
    heard: list[str] = []

    def listen(*asked: Any) -> AuthResult:
        heard.append(str(asked))
        return AuthResult(success=True)

    options = {"tls_context": certificates.server} if kind == "starttls" else {"ssl_context": certificates.server}
    with mail_server(authenticator=listen, auth_require_tls=False, **options) as mails:
        target = spec(mails, tls=kind, username="ops")
        with pytest.raises(FailedError, match="certificate verify failed") as failed:
            send(target, TargetSecrets(secret="right"))
        with pytest.raises(FailedError) as other:
            send(target, TargetSecrets(secret="right"), trusted=pinned_context(":".join(["ab"] * 32)))
    assert failed.value.details == other.value.details == {"permanent": True}
    assert (heard, mails.arrived) == ([], [])


@pytest.mark.parametrize("kind", ["starttls", "implicit"])
def test_a_pinned_certificate_needs_no_authority(kind: str, certificates: Certificates) -> None:
    options = {"tls_context": certificates.server} if kind == "starttls" else {"ssl_context": certificates.server}
    with mail_server(**options) as mails:
        send(spec(mails, tls=kind), trusted=pinned_context(certificates.fingerprint, minimum=ssl.TLSVersion.TLSv1_2))
    assert len(mails.arrived) == 1


@pytest.mark.parametrize(
    ("answer", "permanent"), [("450 not now", False), ("550 nobody here", True), ("421 going down", False)]
)
def test_what_may_get_better_is_told_from_what_will_not(answer: str, permanent: bool) -> None:
    with mail_server() as mails:
        mails.refuse = answer
        with pytest.raises(FailedError, match=answer[:3]) as failed:
            send(spec(mails))
    assert failed.value.details == {"permanent": permanent}


class Choosy(Mails):
    """Does not take mail for those whose addresses begin with `gone`, and not yet for `full`."""

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        self.refuse = {"gone": "550 nobody", "full": "452 mailbox full"}.get(address.partition("@")[0])
        return await super().handle_RCPT(server, session, envelope, address, options)


def test_one_recipient_of_two_that_is_refused_is_told_and_does_not_keep_mail_from_the_other() -> None:
    with mail_server(Choosy()) as mails:
        sent = send(spec(mails, recipients=["ops@example.com", "gone@example.com"]))
    assert [recipients for recipients, _ in mails.arrived] == [["ops@example.com"]]
    assert sent.refused == "gone@example.com: 550 nobody"


def test_a_recipient_that_may_be_taken_later_is_tried_again() -> None:
    with mail_server(Choosy()) as mails, pytest.raises(FailedError, match="452 mailbox full") as failed:
        send(spec(mails, recipients=["ops@example.com", "gone@example.com", "full@example.com"]))
    assert failed.value.details == {"permanent": False}


def test_a_server_that_dies_in_the_message_has_not_taken_it() -> None:
    with dying_in_data() as port, pytest.raises(FailedError, match="failed") as failed:
        send(TargetSpec(kind="smtp", host="127.0.0.1", port=port, tls="none", sender="a@b.c", recipients=["d@e.f"]))
    assert failed.value.details == {"permanent": False}


@pytest.mark.parametrize("kind", ["none", "starttls", "implicit"])
def test_a_conversation_without_end_is_ended_from_outside(kind: str) -> None:
    with dripping(b"\x16\x03\x03\x40\x00" if kind == "implicit" else b"2") as port:
        target = TargetSpec(kind="smtp", host="127.0.0.1", port=port, tls=kind, sender="a@b.c", recipients=["d@e.f"])
        mailer = smtp.Mailer(target, ssl.create_default_context())
        failures: list[FailedError] = []

        def work() -> None:
            try:
                mailer.send(TargetSecrets(), [event()], "node")
            except FailedError as error:
                failures.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        mailer.abort()
        thread.join(10)
        assert not thread.is_alive()
    assert len(failures) == 1


def test_what_is_ended_before_it_began_does_not_begin() -> None:
    with mail_server() as mails:
        mailer = smtp.Mailer(spec(mails), ssl.create_default_context())
        mailer.abort()
        with pytest.raises(FailedError):
            mailer.send(TargetSecrets(), [event()], "node")
    assert not mails.arrived
