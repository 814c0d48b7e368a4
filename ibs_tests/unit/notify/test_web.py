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
