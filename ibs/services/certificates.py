"""The server's certificate while it runs: shown, replaced without dropping a connection, watched until it expires.

It is replaced at once, or on a day that clients learn of before (`pins`, told in every answer): then none is refused.

Made by `app`, used through `ServerContext`. Connections that are there keep the certificate they began with; whoever
connects afterwards sees the new one. Invariant: what `context` serves, what `certificate` says and what lies in the
state folder are the same.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path

import trio

from ibs.core import limits_access
from ibs.core.events import Event, EventSource, Severity
from ibs.core.names import format_time
from ibs.errors import ConflictError, FailedError, UsageError
from ibs.log import get_logger
from ibs.ports.clock import Clock
from ibs.ports.pool import Pool
from ibs.runtime.settings import Settings
from ibs.security import nexttls
from ibs.security.nexttls import NextCertificate
from ibs.security.tls import Certificate, install, make, server_context
from ibs.wire.access import CertificateView

_log = get_logger("api")


class Certificates:
    """One a server. `changed` is awaited after each change of what clients should pin, before it is answered."""

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
        self._next: NextCertificate | None = None
        self._next_certificate: Certificate | None = None
        self._prepared = ""
        self._trouble = ""
        self._woken = trio.Event()

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
        made = cls(
            certificate, context, settings.state_dir, settings.node, alpn, pool=pool, clock=clock, publish=publish
        )
        await made._load_next()
        return made

    @property
    def pins(self) -> str:
        """What clients should pin: the certificate that is served, and the next one after a comma if there is one."""
        coming = self._next_certificate
        return f"{self.certificate.fingerprint},{coming.fingerprint}" if coming else self.certificate.fingerprint

    @property
    def prepared(self) -> str:
        """Since when (RFC 3339) clients are told of the next certificate, as far as this process knows; else ""."""
        return self._prepared

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
            next_fingerprint=self._next_certificate.fingerprint if self._next_certificate else "",
            next_from=self._next.serve_from if self._next else "",
        )

    async def renew(self, by: str, seconds: float = 0) -> CertificateView:
        """A new self-signed one with a new key and the names of the old, served in so many seconds.

        At once, it is the one that was prepared before, if there is one: some clients know that already.
        """
        if not seconds and self._next is not None:
            return await self._replace(by, self._next.content)
        names = list(self.certificate.names)
        content = await self._pool.cpu(make, self._node, names, self._clock.now())
        return await self._replace(by, content, seconds)

    async def replace(self, by: str, pem: str, seconds: float = 0) -> CertificateView:
        """Certificate and key as PEM, served in so many seconds. Raises UsageError, and changes nothing then."""
        return await self._replace(by, pem.encode("utf-8", "surrogatepass"), seconds)

    async def withdraw(self, by: str) -> None:
        """Serve the present certificate further; clients are told so. Raises ConflictError when none is prepared."""
        async with self._changing:
            if self._next_certificate is None:
                raise ConflictError("no other certificate is prepared", hint="see: certificate show")
            gone = self._next_certificate.fingerprint
            with trio.CancelScope(shield=True):
                await self._pool.disk(nexttls.unstage, self._state)
                self._set_next(None)
                await self._say()
        text = f"the certificate {gone} that was to be served is withdrawn by {by}"
        self._tell(Severity.NOTICE, "certificate.withdrawn", text, by=by, fingerprint=gone)

    async def _replace(self, by: str, content: bytes, seconds: float = 0) -> CertificateView:
        return await (self._prepare(by, content, seconds) if seconds else self._serve(by, content))

    async def _prepare(self, by: str, content: bytes, seconds: float) -> CertificateView:
        now = self._clock.now()
        when = now + timedelta(seconds=seconds)
        if when >= self.certificate.expires:
            raise UsageError(
                f"the present certificate expires at {format_time(self.certificate.expires)}, before that",
                hint="serve the next one earlier, or at once: leave --in out",
            )
        async with self._changing:
            with trio.CancelScope(shield=True):
                self._set_next(await self._pool.disk(nexttls.stage, self._state, content, when, now))
                await self._say()
        view = self.show()
        text = f"the certificate {view.next_fingerprint}, given by {by}, will be served from {view.next_from}"
        self._tell(Severity.NOTICE, "certificate.prepared", text, by=by, fingerprint=view.next_fingerprint)
        return view

    async def _serve(self, by: str, content: bytes) -> CertificateView:
        async with self._changing:
            with trio.CancelScope(shield=True):
                before = self.certificate.fingerprint
                made = await self._pool.disk(install, self._state, content, self._clock.now())
                self.context = await self._pool.disk(server_context, made, self._alpn)
                self.certificate = made
                await self._pool.disk(nexttls.unstage, self._state)
                self._set_next(None)
                await self._say()
        text = f"the server's certificate was replaced by {by}: it is {made.fingerprint} now, it was {before}"
        self._tell(Severity.NOTICE, "certificate.replaced", text, by=by, fingerprint=made.fingerprint, before=before)
        return self.show()

    async def watch(self) -> None:
        """Serve the next certificate on its day, and tell in time that one will expire, until cancelled."""
        while True:
            await self._serve_if_due()
            self.check()
            wait = limits_access.CERTIFICATE_LOOK_SECONDS
            if self._next is not None:
                left = (self._next.when - self._clock.now()).total_seconds()
                wait = min(wait, left if left > 0 else limits_access.CERTIFICATE_RETRY_SECONDS)
            self._woken = trio.Event()
            with trio.move_on_after(wait):
                await self._woken.wait()

    async def _serve_if_due(self) -> None:
        coming = self._next
        if coming is None or coming.when > self._clock.now():
            return
        try:
            await self._serve("its day", coming.content)
        except UsageError as error:  # it expired while the server was off, say: it will never do
            text = f"the certificate that was to be served from {coming.serve_from} cannot be: {error.message}"
            self._set_next(None)
            await self._say()
            self._tell(Severity.ERROR, "certificate.not-served", text)
            with contextlib.suppress(FailedError):
                await self._pool.disk(nexttls.unstage, self._state)
        except FailedError as error:  # a full disk, say: it is tried again
            if error.message != self._trouble:
                text = f"the certificate of {coming.serve_from} is not served yet: {error.message}"
                self._tell(Severity.ERROR, "certificate.not-served", text)
            self._trouble = error.message
        else:
            self._trouble = ""

    async def _load_next(self) -> None:
        try:
            self._set_next(await self._pool.disk(nexttls.staged, self._state, self._clock.now()))
        except FailedError as error:
            self._tell(Severity.ERROR, "certificate.not-served", error.message)

    def _set_next(self, coming: tuple[NextCertificate, Certificate] | None) -> None:
        self._next, self._next_certificate = coming or (None, None)
        self._prepared = format_time(self._clock.now()) if coming else ""
        self._woken.set()

    async def _say(self) -> None:
        for changed in self.changed:
            await changed()

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
