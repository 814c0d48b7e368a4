"""Brings events to notification targets: into the durable outbox at once, out of it as the targets take them.

Run by the notify actor. Each target is served alone and in order; one that fails is tried again ever later, and after
its cap of attempts disabled, which the others are told. A message is marked sent only after its target took it, so a
crash may repeat one and loses none.
"""

from __future__ import annotations

import json
import os
import ssl
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import msgspec
import trio

from ibs.catalog.notifications import Backlog, NotificationTable, TargetRecord
from ibs.core import limits_notify
from ibs.core.events import EVENT_VERSION, Event, EventSource, JsonScalar, Severity
from ibs.errors import FailedError, IbsError, UsageError
from ibs.log import get_logger
from ibs.notify import smtp, web
from ibs.notify.message import EventJson, Sent
from ibs.notify.rules import RECIPIENTS_REFUSED, TARGET_DISABLED, choose, least_severity
from ibs.notify.smtp import Mailer
from ibs.ports.clock import Clock
from ibs.ports.pool import Pool
from ibs.security.pinning import pinned_context
from ibs.wire.notification import RuleSpec, TargetSecrets, TargetSpec

PURPOSE = "notification-target"
_log = get_logger("notify")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Vault(Protocol):
    """`security.secrets.ServerSecrets`."""

    def seal(self, purpose: str, plain: bytes) -> bytes: ...
    def unseal(self, purpose: str, sealed: bytes) -> bytes: ...


class Carrying(Protocol):
    """Composes and sends a message; `Carrier` is the real one."""

    def compose(self, target: TargetRecord, events: Sequence[EventJson]) -> Sent: ...
    async def send(self, target: TargetRecord, events: Sequence[EventJson]) -> Sent: ...


class Carrier:
    """Sends by what the target's kind is."""

    def __init__(self, vault: Vault, pool: Pool, server: str) -> None:
        self._vault, self._pool, self._server = vault, pool, server

    def compose(self, target: TargetRecord, events: Sequence[EventJson]) -> Sent:
        """What `send` will send, without secrets."""
        if target.spec.kind == "smtp":
            return Sent(smtp.compose(target.spec, events, self._server).as_string())
        return web.compose(target.spec, self._secrets(target), events, self._server)

    async def send(self, target: TargetRecord, events: Sequence[EventJson]) -> Sent:
        """Raises FailedError. *Cancellation*: the message may have arrived."""
        secrets, tls = self._secrets(target), trusting(target.spec)
        with trio.move_on_after(limits_notify.DELIVERY_SECONDS_MAX):
            if target.spec.kind != "smtp":
                return await web.send(target.spec, secrets, events, self._server, tls=tls)
            mailer = Mailer(target.spec, tls)
            return await self._pool.talk(mailer.send, mailer.abort, secrets, events, self._server)
        seconds = limits_notify.DELIVERY_SECONDS_MAX
        raise FailedError(f"the receiver did not come to an end within {seconds:.0f} seconds")

    async def ship(self, target: TargetRecord, body: bytes) -> None:
        """Send figures or log lines as they are. Raises FailedError. *Cancellation*: they may have arrived."""
        secrets, tls = self._secrets(target), trusting(target.spec)
        with trio.move_on_after(limits_notify.DELIVERY_SECONDS_MAX):
            await web.ship(target.spec, secrets, body, self._server, tls=tls)
            return
        raise FailedError("the receiver did not come to an end in time")

    def _secrets(self, target: TargetRecord) -> TargetSecrets:
        return msgspec.json.decode(self._vault.unseal(PURPOSE, target.sealed), type=TargetSecrets)


def trusting(spec: TargetSpec) -> ssl.SSLContext:
    """The certificates that a target's settings let count. Raises FailedError for settings that cannot be used."""
    try:
        if spec.fingerprint:
            return pinned_context(spec.fingerprint, minimum=ssl.TLSVersion.TLSv1_2)
        return ssl.create_default_context(cadata=spec.ca or None)
    except (ssl.SSLError, ValueError, UsageError) as error:
        raise FailedError(f"the certificates to trust cannot be used: {error}", permanent=True) from error


@dataclass(frozen=True, slots=True)
class TargetFigures:
    """One target, for metrics. `failures` in a row; `sent` and `failed` since the start."""

    name: str
    enabled: bool
    failures: int
    waiting: int
    oldest_ns: int
    sent: int
    failed: int


class Deliveries:
    """The outbox and who empties it. Outlives the actor that runs it."""

    def __init__(
        self,
        table: NotificationTable,
        carrier: Carrying,
        *,
        clock: Clock,
        publish: Callable[[Event], None],
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._table, self._carrier, self._clock = table, carrier, clock
        self._publish, self._entropy = publish, entropy
        self._arrived = trio.Event()
        self._busy: set[str] = set()
        self._sent: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._refused: dict[str, str] = {}
        self._figures: Sequence[TargetFigures] = ()

    async def add(
        self, *, time_ns: int, severity: str, source: str, kind: str, text: str, fields: dict[str, Any]
    ) -> int:
        """Keep an event in the inbox and for its targets; for how many. *Durability*: kept when this returns."""
        moment = (_EPOCH + timedelta(microseconds=time_ns // 1000)).isoformat(timespec="microseconds")
        event: Mapping[str, Any] = {
            "version": EVENT_VERSION,
            "time": moment.replace("+00:00", "Z"),
            "source": source,
            "severity": severity,
            "kind": kind,
            "text": text,
            "fields": fields,
        }
        row = (time_ns, severity, source, kind, text, json.dumps(fields))
        inbox = Severity(severity).rank >= Severity.NOTICE.rank
        chosen = await self._table.keep(row, event, choose, inbox=inbox)
        self.wake()
        return len(chosen)

    async def wants(self, severity: Severity) -> bool:
        """Whether anybody is to be told of such: the inbox from notices on, and targets by what their rules ask for."""
        if severity.rank >= Severity.NOTICE.rank:
            return True
        return severity.rank >= least_severity(await self._table.words(RuleSpec))

    def figures(self) -> Sequence[TargetFigures]:
        """How each target stood when the outbox was looked at last: half a minute ago, or when something happened."""
        return self._figures

    def _figures_of(self, target: TargetRecord, waiting: Backlog) -> TargetFigures:
        return TargetFigures(
            target.name,
            target.enabled,
            target.failures,
            waiting.messages,
            waiting.oldest_ns,
            self._sent[target.name],
            self._failed[target.name],
        )

    def wake(self) -> None:
        """Look at once: something came, or a target was enabled."""
        self._arrived.set()

    async def run(self, scope: trio.CancelScope) -> None:
        """Empty the outbox until `scope` is cancelled."""
        self._busy.clear()  # of an actor that died
        with scope:
            async with trio.open_nursery() as nursery:  # noqa: TID251 - one task a target under way
                while True:
                    self._arrived = trio.Event()
                    pause = await self._start_due(nursery)
                    with trio.move_on_after(pause):
                        await self._arrived.wait()

    async def _start_due(self, nursery: trio.Nursery) -> float:
        """Begin with every target that may be tried; seconds until the next may."""
        pause = limits_notify.LOOK_SECONDS
        now = self._clock.now_ns()
        # What is read below is of before the end of a delivery that is under way now: its target is for the next look.
        under_way = frozenset(self._busy)
        try:
            targets, backlog = await self._table.targets(), await self._table.backlog()
            self._figures = [self._figures_of(target, backlog.get(target.name, Backlog())) for target in targets]
            for target in targets:
                if not target.enabled or target.name in under_way | self._busy:
                    continue
                waiting = backlog.get(target.name)
                if waiting is None:
                    continue
                ready = max(target.retry_ns, _ready(target, waiting))
                if now < ready <= now + _longest(target):
                    pause = min(pause, (ready - now) / 1e9)
                else:
                    self._busy.add(target.name)
                    nursery.start_soon(self._serve, target)
        except IbsError as error:
            _log.error("the outbox cannot be read", error=error.message)
        return max(pause, 0.01)

    async def _serve(self, target: TargetRecord) -> None:
        over = False
        try:
            waiting = await self._table.due(target.name)
            if waiting:
                await self._attempt(target, [one.id for one in waiting], [one.event for one in waiting])
            over = True
        except IbsError as error:  # the state cannot be written: the message waits, and may come twice
            _log.error("a delivery could not be noted", target=target.name, error=error.message)
        finally:
            self._busy.discard(target.name)
            if over:  # else it would be sent again and again, as fast as it goes
                self.wake()

    async def _attempt(self, target: TargetRecord, ids: Sequence[int], events: Sequence[EventJson]) -> None:
        try:
            sent = await self._send(target, events)
        except FailedError as error:
            await self._note_failure(target, ids, events, error)
            return
        await self._table.sent(target.name, ids, sent.payload, sent.command, _refusal(sent))
        self._sent[target.name] += len(ids)
        self._tell_refused(target.name, sent.refused)
        _log.info("delivered", target=target.name, events=len(ids))

    def _tell_refused(self, name: str, refused: str) -> None:
        """Once for as long as it stays the same: two targets could otherwise tell each other for ever."""
        known = self._refused.pop(name, "")
        if not refused:
            return
        self._refused[name] = refused
        _log.warning("some recipients were refused", target=name, refused=refused)
        if refused != known:
            text = f"notification target {name}: not every recipient is taken by the mail server: {refused}"
            fields: dict[str, JsonScalar] = {"target": name}
            self._publish(
                Event(self._clock.now(), EventSource.SYSTEM, Severity.WARNING, RECIPIENTS_REFUSED, text[:1000], fields)
            )

    async def _send(self, target: TargetRecord, events: Sequence[EventJson]) -> Sent:
        """Raises FailedError for whatever went wrong."""
        try:
            return await self._carrier.send(target, events)
        except FailedError:
            raise
        except Exception as error:
            # One target's odd settings or receiver must not stop the others.
            _log.exception("a delivery failed in an unforeseen way", target=target.name)
            raise FailedError(f"the message could not be sent: {type(error).__name__}") from error

    def _compose(self, target: TargetRecord, events: Sequence[EventJson]) -> Sent:
        """For the history. What cannot be composed is a failure of its target too, not the end of the role."""
        try:
            return self._carrier.compose(target, events)
        except (ValueError, TypeError, LookupError, IbsError):
            _log.exception("a message cannot be composed", target=target.name)
            return Sent("")

    async def _note_failure(
        self, target: TargetRecord, ids: Sequence[int], events: Sequence[EventJson], error: FailedError
    ) -> None:
        attempt = target.failures + 1
        last = attempt >= _attempts_max(target, error)
        delay = self._delay(target.spec.retry_seconds, attempt)
        shown = self._compose(target, events)
        await self._table.failed(
            target.name,
            ids,
            error=error.message,
            payload=shown.payload,
            command=shown.command,
            retry_ns=self._clock.now_ns() + int(delay * 1e9),
            disable=last,
        )
        self._failed[target.name] += 1
        _log.error("delivery failed", target=target.name, attempt=attempt, error=error.message)
        if last:
            text = f"notification target {target.name} is disabled after {attempt} failed attempts: {error.message}"
            fields: dict[str, JsonScalar] = {"target": target.name, "attempts": attempt}
            self._publish(
                Event(self._clock.now(), EventSource.SYSTEM, Severity.ERROR, TARGET_DISABLED, text[:1000], fields)
            )

    def _delay(self, first: float, attempt: int) -> float:
        """Doubled each time up to a cap, then three to five quarters of it, so that targets do not march in step."""
        whole = min(first * 2.0 ** min(attempt - 1, 30), limits_notify.BACKOFF_SECONDS_MAX)
        return whole * (0.75 + self._entropy(1)[0] / 510)

    async def test(self, target: TargetRecord) -> tuple[int, str]:
        """Send a test message now, past the outbox; its number in the history, and the error ("" when it arrived)."""
        now = self._clock.now()
        text = f"a test of the notification target {target.name}"
        event = Event(now, EventSource.SYSTEM, Severity.INFO, "notify.test", text, {"target": target.name}).to_json()
        try:
            sent = await self._send(target, [event])
            error = _refusal(sent)
        except FailedError as failed:
            sent, error = self._compose(target, [event]), failed.message
            _log.error("a test failed", target=target.name, error=error)
        state = "failed" if error else "sent"
        number = await self._table.note(target.name, event, self._clock.now_ns(), state, error)
        await self._table.describe(target.name, number, sent.payload, sent.command)
        return number, error


def _ready(target: TargetRecord, waiting: Backlog) -> int:
    """When what waits may go: at once, or with others of its digest; nothing waits once an error is among it."""
    return 0 if waiting.urgent else waiting.oldest_ns + target.spec.digest_seconds * 1_000_000_000


def _refusal(sent: Sent) -> str:
    return f"refused, but taken for the others: {sent.refused}" if sent.refused else ""


def _longest(target: TargetRecord) -> int:
    """Nothing waits longer than this: what seems to was noted before somebody set the clock back."""
    return int(max(limits_notify.BACKOFF_SECONDS_MAX, target.spec.digest_seconds) * 1e9)


def _attempts_max(target: TargetRecord, error: FailedError) -> int:
    """Fewer when the receiver said that it will not get better."""
    most = target.spec.attempts_max
    return min(most, limits_notify.PERMANENT_ATTEMPTS_MAX) if error.details.get("permanent") else most
