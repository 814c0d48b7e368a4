"""The server's certificate while it runs: shown, replaced without dropping a connection, watched until it expires.

Made by `app`, used through `ServerContext`. Connections that are there keep the certificate they began with; whoever
connects afterwards sees the new one. Invariant: what `context` serves, what `certificate` says and what lies in the
state folder are the same.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path

import trio

from ibs.core import limits_access
from ibs.core.events import Event, EventSource, Severity
from ibs.core.names import format_time
from ibs.log import get_logger
from ibs.ports.clock import Clock
from ibs.ports.pool import Pool
from ibs.runtime.settings import Settings
from ibs.security.tls import Certificate, install, make, server_context
from ibs.wire.access import CertificateView

_log = get_logger("api")


class Certificates:
    """One a server. `changed` is awaited after each replacement, before it is answered."""

    def __init__(
        self,
        certificate: Certificate,
        context: ssl.SSLContext,
        state: Path,
        node: str,
        alpn: Sequence[str],
        *,
        pool: Pool,
        clock: Clock,
        publish: Callable[[Event], None],
    ) -> None:
        self.certificate = certificate
        self.context = context
        self.changed: list[Callable[[], Awaitable[object]]] = []
        self._state = state
        self._node = node
        self._alpn = list(alpn)
        self._pool = pool
        self._clock = clock
        self._publish = publish
        self._changing = trio.Lock()
        self._told: tuple[str, int] = ("", 0)

    @classmethod
    async def begin(
        cls,
        certificate: Certificate,
        settings: Settings,
        alpn: Sequence[str],
        *,
        pool: Pool,
        clock: Clock,
        publish: Callable[[Event], None],
    ) -> Certificates:
        """Ready to serve `certificate`. Raises FailedError when it cannot be loaded."""
        context = await pool.disk(server_context, certificate, alpn)
        return cls(
            certificate, context, settings.state_dir, settings.node, alpn, pool=pool, clock=clock, publish=publish
        )

    def show(self) -> CertificateView:
        """The certificate that is served."""
        one = self.certificate
        left = one.expires - self._clock.now()
        return CertificateView(
            fingerprint=one.fingerprint,
            expires=format_time(one.expires),
            days_left=left.days,
            subject=one.subject,
            issuer=one.issuer,
            self_signed=one.self_signed,
            names=list(one.names),
        )

    async def renew(self, by: str) -> CertificateView:
        """A new self-signed one with a new key and the names of the old."""
        names = list(self.certificate.names)
        content = await self._pool.cpu(make, self._node, names, self._clock.now())
        return await self._replace(by, content)

    async def replace(self, by: str, pem: str) -> CertificateView:
        """Certificate and key as PEM. Raises UsageError, and changes nothing then."""
        return await self._replace(by, pem.encode("utf-8", "surrogatepass"))

    async def _replace(self, by: str, content: bytes) -> CertificateView:
        async with self._changing:
            with trio.CancelScope(shield=True):
                before = self.certificate.fingerprint
                made = await self._pool.disk(install, self._state, content, self._clock.now())
                self.context = await self._pool.disk(server_context, made, self._alpn)
                self.certificate = made
                for changed in self.changed:
                    await changed()
        text = f"the server's certificate was replaced by {by}: it is {made.fingerprint} now, it was {before}"
        self._tell(Severity.NOTICE, "certificate.replaced", text, by=by, fingerprint=made.fingerprint, before=before)
        return self.show()

    async def watch(self) -> None:
        """Tell in time that the certificate will expire, until cancelled."""
        while True:
            self.check()
            await self._clock.sleep(limits_access.CERTIFICATE_LOOK_SECONDS)

    def check(self) -> None:
        """Tell it once for each of the steps before the end, and once after it."""
        left = self.certificate.expires - self._clock.now()
        due = [days for days in limits_access.CERTIFICATE_WARN_DAYS if left <= timedelta(days=days)]
        if not due:
            return
        step = (self.certificate.fingerprint, min(due))
        if step == self._told:
            return
        self._told = step
        when = format_time(self.certificate.expires)
        how = f"expires at {when}" if left > timedelta(0) else f"has expired at {when}"
        severity = Severity.WARNING if min(due) > limits_access.CERTIFICATE_URGENT_DAYS else Severity.ERROR
        text = f"the server's certificate {how}; make a new one: ironcore-backup certificate renew"
        self._tell(severity, "certificate.expires", text, fingerprint=step[0], days=left.days)

    def _tell(self, severity: Severity, kind: str, text: str, **fields: str | int) -> None:
        _log.info(text)
        self._publish(Event(self._clock.now(), EventSource.SYSTEM, severity, kind, text, fields))
