"""Sends a message by HTTP: webhooks and InfluxDB's line protocol. Used by `services`.

TLS is verified by the caller's context, redirects are not followed, the answer is read up to a bound. Any status but
2xx is a failure.
"""

from __future__ import annotations

import hashlib
import hmac
import shlex
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import cast
from urllib.parse import urlsplit

import httpx

from ibs.core import limits_notify
from ibs.errors import FailedError, TlsFingerprintMismatch
from ibs.notify.message import EventJson, Sent, body, influx
from ibs.wire.notification import TargetSecrets, TargetSpec

SIGNATURE = "X-IBS-Signature"


def compose(spec: TargetSpec, events: Sequence[EventJson], server: str) -> Sent:
    """The body, and the curl line that repeats it; secrets are placeholders in it."""
    metric = spec.kind == "metric"
    text = influx(events, server) if metric else body(events, server, spec.template)
    kind = "text/plain" if metric else "application/json"
    words = ["curl", "-X", "POST", spec.url, "-H", f"Content-Type: {kind}", "--data-raw", text]
    return Sent(text, shlex.join(words))


async def send(
    spec: TargetSpec, secrets: TargetSecrets, events: Sequence[EventJson], server: str, *, tls: ssl.SSLContext
) -> Sent:
    """Post the message. Raises FailedError with the receiver's answer, with `permanent` when it will stay so.

    *Cancellation*: it may have arrived.
    """
    sent = compose(spec, events, server)
    raw = sent.payload.encode()
    headers = dict(secrets.headers)
    headers["Content-Type"] = "text/plain; charset=utf-8" if spec.kind == "metric" else "application/json"
    if secrets.secret and spec.kind == "metric":
        headers["Authorization"] = f"Token {secrets.secret}"
    elif secrets.secret:
        headers[SIGNATURE] = "sha256=" + hmac.new(secrets.secret.encode(), raw, hashlib.sha256).hexdigest()
    try:
        limit = httpx.Timeout(limits_notify.SEND_SECONDS)
        async with (
            httpx.AsyncClient(verify=tls, timeout=limit, follow_redirects=False, trust_env=False) as client,
            client.stream("POST", spec.url, content=raw, headers=headers) as answer,
        ):
            if not answer.is_success:
                said = await _beginning(answer)
                told = f"{answer.url.host} answered {answer.status_code} {said}".strip()
                raise FailedError(told, permanent=_is_permanent(answer.status_code))
    except TlsFingerprintMismatch as error:
        raise FailedError(f"{place(spec.url)}: {error.message}", permanent=True) from error
    except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError, ValueError) as error:
        raise FailedError(f"no answer from {place(spec.url)}: {error or type(error).__name__}"[:500]) from error
    return sent


def _is_permanent(status: int) -> bool:
    """The request itself is not to the receiver's liking; too many or too slow ones may be later (RFC 9110, 15.5)."""
    return 300 <= status < 500 and status not in (408, 425, 429)


def place(url: str) -> str:
    """Host and port of an address: what it says beyond that is often a credential, and errors are seen by many."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2] or "the address"
    except ValueError:
        return "the address"


async def _beginning(answer: httpx.Response) -> str:
    async with aclosing(cast(AsyncGenerator[bytes, None], answer.aiter_raw(limits_notify.ANSWER_BYTES))) as pieces:
        async for piece in pieces:
            text = piece[: limits_notify.ANSWER_BYTES].decode("utf-8", "replace")
            return "".join(char if char.isprintable() else " " for char in text)
    return ""
