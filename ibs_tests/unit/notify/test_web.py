"""Webhooks and line protocol, against a real receiver."""

from __future__ import annotations

import hashlib
import hmac
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from ibs.errors import FailedError
from ibs.notify import web
from ibs.notify.message import EventJson, Sent
from ibs.services.deliveries import trusting
from ibs.wire.notification import TargetSecrets, TargetSpec
from ibs_tests.support.control import Certificates
from ibs_tests.support.receivers import http_receiver
from ibs_tests.unit.notify.test_message import EVIL, event


async def post(spec: TargetSpec, secrets: TargetSecrets, events: Sequence[EventJson]) -> Sent:
    return await web.send(spec, secrets, events, "node", tls=trusting(spec))


async def test_the_signature_fits_the_body_and_the_command_holds_no_secret() -> None:
    secrets = TargetSecrets(secret="hush", headers={"X-Key": "token-1"})
    with http_receiver() as posts:
        sent = await post(TargetSpec(kind="webhook", url=posts.url), secrets, [event()])
    headers, body = posts.arrived[0]
    assert headers[web.SIGNATURE] == "sha256=" + hmac.new(b"hush", body, hashlib.sha256).hexdigest()
    assert headers["X-Key"] == "token-1"
    assert body.decode() == sent.payload
    assert "hush" not in sent.line
    assert "token-1" not in sent.line


async def test_metric_speaks_line_protocol_with_a_token() -> None:
    with http_receiver() as posts:
        await post(TargetSpec(kind="metric", url=posts.url), TargetSecrets(secret="t"), [event()])
    headers, body = posts.arrived[0]
    assert headers["Authorization"] == "Token t"
    assert body.startswith(b"ibs_event,")


@pytest.mark.parametrize("status", [302, 404, 503])
async def test_whatever_is_no_success_is_a_failure_and_redirects_are_not_followed(status: int) -> None:
    with http_receiver() as posts:
        posts.status = status
        with pytest.raises(FailedError, match=str(status)):
            await post(TargetSpec(kind="webhook", url=posts.url), TargetSecrets(), [event()])
    assert (posts.refused, posts.arrived) == (1, [])


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example/services/T0/secret", "hooks.example"),
        ("http://user:pass@a.example:8086/write?db=x&p=secret", "a.example:8086"),
        ("https://[::1]:80/x", "[::1]:80"),
        ("https://[broken/secret", "the address"),
        ("", "the address"),
    ],
)
def test_an_error_names_the_host_only(url: str, shown: str) -> None:
    assert web.place(url) == shown


async def test_who_cannot_be_reached_is_named_without_the_secret_part() -> None:
    spec = TargetSpec(kind="webhook", url="http://127.0.0.1:1/services/secret")
    with pytest.raises(FailedError, match=r"no answer from 127\.0\.0\.1:1: ") as caught:
        await post(spec, TargetSecrets(), [event()])
    assert "secret" not in caught.value.message


async def test_only_the_pinned_certificate_hears_the_message(tmp_path: Path) -> None:
    certificates = Certificates.make(tmp_path)
    with http_receiver(certificates.server) as posts:
        await post(
            TargetSpec(kind="webhook", url=posts.url, fingerprint=certificates.fingerprint), TargetSecrets(), [event()]
        )
        for wrong in ({"fingerprint": ":".join(["ab"] * 32)}, {}):
            with pytest.raises(FailedError):
                await post(TargetSpec(kind="webhook", url=posts.url, **wrong), TargetSecrets(secret="x"), [event()])
    assert len(posts.arrived) == 1


@pytest.mark.parametrize(
    ("status", "permanent"), [(302, True), (400, True), (404, True), (408, False), (429, False), (500, False)]
)
async def test_what_may_get_better_is_told_from_what_will_not(status: int, permanent: bool) -> None:
    with http_receiver() as posts:
        posts.status = status
        with pytest.raises(FailedError) as failed:
            await post(TargetSpec(kind="webhook", url=posts.url), TargetSecrets(), [event()])
    assert failed.value.details == {"permanent": permanent}


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("template", ["", '{"say": "$text", "cost": "$$5"}'])
async def test_the_line_of_the_history_sends_the_same_again(template: str, tmp_path: Path) -> None:
    """As somebody types it in a shell, who knows the extra headers but not the key: the signature is in the line."""
    secrets = TargetSecrets(secret='it\'s a "key"', headers={"X-Key": "token-1", "content-type": "text/odd"})
    with http_receiver() as posts:
        spec = TargetSpec(kind="webhook", url=posts.url + "?a=1&b='$HOME'", template=template)
        sent = await post(spec, secrets, [event(EVIL)])
        assert "token-1" not in sent.line
        assert 'a "key"' not in sent.line
        variables = os.environ | {web.variable("X-Key"): "token-1"}
        subprocess.run(sent.line, shell=True, check=True, cwd=tmp_path, capture_output=True, env=variables)
    (first, body), (again, repeated) = posts.arrived
    assert repeated == body
    for name in ("Content-Type", "X-Key", web.SIGNATURE):
        assert again[name] == first[name]
    assert again["Content-Type"] == "application/json"
    made = "sha256=" + hmac.new(secrets.secret.encode(), repeated, hashlib.sha256).hexdigest()
    assert again[web.SIGNATURE] == made


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("kind", ["metric", "pushgateway"])
async def test_a_token_is_a_variable_of_the_line(kind: str, tmp_path: Path) -> None:
    with http_receiver() as posts:
        sent = await post(TargetSpec(kind=kind, url=posts.url), TargetSecrets(secret="token-2"), [event()])
        assert "token-2" not in sent.line
        variables = os.environ | {web.TOKEN_FROM: "token-2"}
        subprocess.run(sent.line, shell=True, check=True, cwd=tmp_path, capture_output=True, env=variables)
    (first, body), (again, repeated) = posts.arrived
    assert (again["Authorization"], repeated) == (first["Authorization"], body)


def test_mail_has_no_line() -> None:
    assert not Sent("From: a").line
