"""Webhooks and line protocol, against a real receiver."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from ibs.errors import FailedError
from ibs.notify import web
from ibs.wire.notification import TargetSecrets, TargetSpec
from ibs_tests.support.receivers import http_receiver
from ibs_tests.unit.notify.test_message import event


async def test_the_signature_fits_the_body_and_the_command_holds_no_secret() -> None:
    secrets = TargetSecrets(secret="hush", headers={"X-Key": "token-1"})
    with http_receiver() as posts:
        sent = await web.send(TargetSpec(kind="webhook", url=posts.url), secrets, [event()], "node")
    headers, body = posts.arrived[0]
    assert headers[web.SIGNATURE] == "sha256=" + hmac.new(b"hush", body, hashlib.sha256).hexdigest()
    assert headers["X-Key"] == "token-1"
    assert body.decode() == sent.payload
    assert "hush" not in sent.command
    assert "token-1" not in sent.command


async def test_metric_speaks_line_protocol_with_a_token() -> None:
    with http_receiver() as posts:
        await web.send(TargetSpec(kind="metric", url=posts.url), TargetSecrets(secret="t"), [event()], "node")
    headers, body = posts.arrived[0]
    assert headers["Authorization"] == "Token t"
    assert body.startswith(b"ibs_event,")


@pytest.mark.parametrize("status", [302, 404, 503])
async def test_whatever_is_no_success_is_a_failure_and_redirects_are_not_followed(status: int) -> None:
    with http_receiver() as posts:
        posts.status = status
        with pytest.raises(FailedError, match=str(status)):
            await web.send(TargetSpec(kind="webhook", url=posts.url), TargetSecrets(), [event()], "node")
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
        await web.send(spec, TargetSecrets(), [event()], "node")
    assert "secret" not in caught.value.message
