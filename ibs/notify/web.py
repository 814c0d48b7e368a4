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
from urllib.parse import quote, urlsplit

import httpx

from ibs.core import limits_notify
from ibs.errors import FailedError, TlsFingerprintMismatch
from ibs.notify.message import EventJson, Sent, body, influx
from ibs.wire.notification import TargetSecrets, TargetSpec

SIGNATURE = "X-IBS-Signature"
TOKEN_FROM = "IBS_TARGET_SECRET"  # noqa: S105 - the name of a variable
"""The variable that stands for a token, and from which `target create` takes one."""
_TYPES = {
    "webhook": "application/json",
    "metric": "text/plain; charset=utf-8",
    "pushgateway": "text/plain; version=0.0.4; charset=utf-8",
}
_TEST = """\
# HELP ironcore_backup_target_test A test of the target.
# TYPE ironcore_backup_target_test gauge
ironcore_backup_target_test 1
"""
_SCHEMES = {"metric": "Token", "pushgateway": "Bearer"}


def compose(spec: TargetSpec, secrets: TargetSecrets, events: Sequence[EventJson], server: str) -> Sent:
    """The body, and the curl line that sends it: with its signature; for a token and the extra headers, variables."""
    url = spec.url
    match spec.kind:
        case "metric":
            text = influx(events, server)
        case "pushgateway":  # takes no events; a test sends this
            text, url = _TEST, group_url(spec.url, server)
        case _:
            text = body(events, server, spec.template)
    words = ["curl", "-X", "POST", shlex.quote(url)]
    for name, value in _headers(spec, secrets, text.encode()).items():
        if name in secrets.headers:
            words += ["-H", f'"{name}: ${variable(name)}"']
        elif name == "Authorization":
            words += ["-H", f'"{name}: {_SCHEMES[spec.kind]} ${TOKEN_FROM}"']
        else:
            words += ["-H", shlex.quote(f"{name}: {value}")]
    return Sent(text, " ".join(words))


def variable(header: str) -> str:
    """Which variable of the shell stands for an extra header's value."""
    return "IBS_HEADER_" + header.upper().replace("-", "_")


async def send(
    spec: TargetSpec, secrets: TargetSecrets, events: Sequence[EventJson], server: str, *, tls: ssl.SSLContext
) -> Sent:
    """Post the message. Raises FailedError with the receiver's answer, with `permanent` when it will stay so.

    *Cancellation*: it may have arrived.
    """
    sent = compose(spec, secrets, events, server)
    url = group_url(spec.url, server) if spec.kind == "pushgateway" else spec.url
    await _exchange(spec, secrets, ("POST", url), sent.payload.encode(), tls)
    return sent


async def ship(spec: TargetSpec, secrets: TargetSecrets, content: bytes, server: str, *, tls: ssl.SSLContext) -> None:
    """Send lines for InfluxDB; or to a push gateway all figures of this server, in place of those it had.

    Raises and is cancelled as `send`.
    """
    way = ("PUT", group_url(spec.url, server)) if spec.kind == "pushgateway" else ("POST", spec.url)
    await _exchange(spec, secrets, way, content, tls)


def group_url(url: str, server: str) -> str:
    """Where a push gateway keeps the figures of this server, by its own documentation."""
    return f"{url.rstrip('/')}/metrics/job/ironcore-backup/instance/{quote(server, safe='')}"


async def _exchange(
    spec: TargetSpec, secrets: TargetSecrets, way: tuple[str, str], raw: bytes, tls: ssl.SSLContext
) -> None:
    """One request (method and address of `way`) and its answer. Raises FailedError."""
    method, url = way
    headers = _headers(spec, secrets, raw)
    try:
        limit = httpx.Timeout(limits_notify.SEND_SECONDS)
        async with (
            httpx.AsyncClient(verify=tls, timeout=limit, follow_redirects=False, trust_env=False) as client,
            client.stream(method, url, content=raw, headers=headers) as answer,
        ):
            if not answer.is_success:
                said = await _beginning(answer)
                told = f"{answer.url.host} answered {answer.status_code} {said}".strip()
                raise FailedError(told, permanent=_is_permanent(answer.status_code))
    except TlsFingerprintMismatch as error:
        raise FailedError(f"{place(url)}: {error.message}", permanent=True) from error
    except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError, ValueError) as error:
        raise FailedError(f"no answer from {place(url)}: {error or type(error).__name__}"[:500]) from error


def _headers(spec: TargetSpec, secrets: TargetSecrets, raw: bytes) -> dict[str, str]:
    """Ours, and the extra ones that have other names."""
    ours = {"Content-Type": _TYPES[spec.kind]}
    if secrets.secret and spec.kind == "webhook":
        ours[SIGNATURE] = "sha256=" + hmac.new(secrets.secret.encode(), raw, hashlib.sha256).hexdigest()
    elif secrets.secret:
        ours["Authorization"] = f"{_SCHEMES[spec.kind]} {secrets.secret}"
    taken = {name.lower() for name in ours}
    return ours | {name: value for name, value in secrets.headers.items() if name.lower() not in taken}


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
