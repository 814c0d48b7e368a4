"""Notification targets, groups, rules and history, as administrators see and change them. Used by `control`.

Secrets are sealed with the server key before the catalog gets them, and never come out again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import urlsplit

import msgspec

from ibs.catalog.notifications import NotificationTable, Posted, TargetRecord
from ibs.core import limits_notify
from ibs.core.events import EventSource, Severity
from ibs.core.ids import parse_fingerprint
from ibs.core.names import check_name, format_time
from ibs.core.retention import zone_of
from ibs.core.schedule import check_windows
from ibs.errors import NotFoundError, UsageError
from ibs.notify.message import Sent, check_template
from ibs.ports.clock import Clock
from ibs.services.deliveries import PURPOSE, Deliveries, Vault
from ibs.services.shipping import LEVELS
from ibs.wire.notification import (
    GroupSpec,
    HistoryView,
    RuleSpec,
    TargetSecrets,
    TargetSet,
    TargetSpec,
    TargetView,
    TestResult,
)

_ADDRESS = re.compile(r"[^\s<>@,;:\"\x00-\x1f\x7f]+@[^\s<>@,;:\"\x00-\x1f\x7f]+")
_STATES = ("waiting", "sent", "failed", "dropped")
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}")


class Notifications:
    """The desk of notifications."""

    def __init__(self, table: NotificationTable, deliveries: Deliveries, vault: Vault, clock: Clock) -> None:
        self._table, self._deliveries, self._vault, self._clock = table, deliveries, vault, clock

    async def targets(self) -> list[TargetView]:
        """All, by name, without secrets."""
        return [await self._view(record) for record in await self._table.targets()]

    async def target(self, name: str) -> TargetView:
        """Raises NotFoundError."""
        return await self._view(await self._table.target(name))

    async def create(self, request: TargetSet) -> TargetView:
        """Raises UsageError, ConflictError."""
        check_name(request.name, "target")
        check_target(request.spec)
        sealed = self._seal(request.secrets or TargetSecrets())
        await self._table.add_target(TargetRecord(name=request.name, spec=request.spec, sealed=sealed))
        self._deliveries.wake()
        return await self.target(request.name)

    async def update(self, request: TargetSet) -> TargetView:
        """Replace its settings, secrets too when given, and try what waits. Raises UsageError, NotFoundError."""
        old = await self._table.target(request.name)
        check_target(request.spec)
        if request.spec.kind != old.spec.kind:
            raise UsageError(
                f"target {old.name} is of kind {old.spec.kind}, which cannot change", hint="make a new one"
            )
        sealed = old.sealed
        if request.secrets is not None:
            had, new = self._secrets(old), request.secrets
            secret = had.secret if request.keep_secret else new.secret
            sealed = self._seal(
                TargetSecrets(secret=secret, headers=had.headers if request.keep_headers else new.headers)
            )
        await self._table.change_target(request.name, request.spec, sealed)
        self._deliveries.wake()
        return await self.target(request.name)

    async def steer(self, name: str, *, enabled: bool) -> TargetView:
        """Enable (what waited is sent) or disable (messages wait). Raises NotFoundError."""
        await self._table.steer(name, enabled=enabled, why="" if enabled else "disabled by hand")
        self._deliveries.wake()
        return await self.target(name)

    async def remove(self, name: str) -> None:
        """What waits for it is dropped. Raises NotFoundError."""
        await self._table.remove_target(name)
        self._deliveries.wake()

    async def test(self, name: str, recipient: str = "") -> TestResult:
        """Send a message now and keep how it went; a disabled target too. Raises NotFoundError, UsageError."""
        record = await self._table.target(name)
        if recipient:
            if record.spec.kind != "smtp":
                raise UsageError(f"target {name} has no recipients", hint="leave --recipient out")
            _check_addresses([recipient])
            record = replace(record, spec=msgspec.structs.replace(record.spec, recipients=[recipient]))
        number, error = await self._deliveries.test(record)
        time = format_time(self._clock.now())
        message = error or "the test message was accepted"
        result = TestResult(time=time, ok=not error, message=message, recipient=recipient, history=number)
        await self._table.tested(name, result)
        return result

    async def groups(self) -> list[GroupSpec]:
        """All, by name."""
        return list(await self._table.words(GroupSpec))

    async def rules(self) -> list[RuleSpec]:
        """All, by name."""
        return list(await self._table.words(RuleSpec))

    async def set_group(self, group: GroupSpec) -> GroupSpec:
        """Raises UsageError, NotFoundError for an unknown target."""
        check_name(group.name, "group")
        await self._check_takes_events(group.name, group.targets)
        await self._table.put_word(group)
        return group

    async def set_rule(self, rule: RuleSpec) -> RuleSpec:
        """Raises UsageError, NotFoundError for an unknown target or group."""
        check_name(rule.name, "rule")
        severities(rule.severity)
        for source in rule.sources:
            check_source(source)
        check_windows(rule.windows)
        zone_of(rule.time_zone)
        if not rule.targets and not rule.groups:
            raise UsageError(f"rule {rule.name} leads nowhere", hint="give --target or --group")
        await self._check_takes_events(rule.name, rule.targets)
        await self._table.put_word(rule)
        return rule

    async def _check_takes_events(self, name: str, targets: Sequence[str]) -> None:
        """Raises UsageError."""
        for target in await self._table.targets():
            if target.name in targets and target.spec.kind == "pushgateway":
                raise UsageError(f"{name}: target {target.name} is a push gateway, which takes no events")

    async def remove_group(self, name: str) -> None:
        """Raises NotFoundError."""
        await self._table.remove_word(GroupSpec, name)

    async def remove_rule(self, name: str) -> None:
        """Raises NotFoundError."""
        await self._table.remove_word(RuleSpec, name)

    async def history(self, target: str, limit: int, state: str = "") -> list[HistoryView]:
        """Newest first, without payloads. Raises UsageError for a state that is none."""
        if state:
            _one_of(state, _STATES, "state")
        rows = await self._table.history(target, 0, limit, state)
        return [msgspec.structs.replace(_history(row), payload="", command="") for row in rows]

    async def history_entry(self, number: int) -> HistoryView:
        """With payload, and the command that repeats it. Raises NotFoundError."""
        rows: Sequence[Posted] = await self._table.history("", number, 1) if number > 0 else []
        if not rows:
            hint = "see: ironcore-backup notification history list"
            raise NotFoundError(f"no notification {number} in the history", hint=hint)
        return _history(rows[0])

    def _seal(self, secrets: TargetSecrets) -> bytes:
        for name, value in secrets.headers.items():
            if not _HEADER.fullmatch(name) or not value.isprintable() or not value.isascii():
                raise UsageError(
                    f"header {name[:64]!r} is not valid", hint="letters, digits, dashes; one line of ASCII"
                )
        return self._vault.seal(PURPOSE, msgspec.json.encode(secrets))

    def _secrets(self, record: TargetRecord) -> TargetSecrets:
        return msgspec.json.decode(self._vault.unseal(PURPOSE, record.sealed), type=TargetSecrets)

    async def _view(self, record: TargetRecord) -> TargetView:
        secrets = self._secrets(record)
        return TargetView(
            name=record.name,
            spec=record.spec,
            enabled=record.enabled,
            disabled_why=record.disabled_why,
            failures=record.failures,
            waiting=await self._table.waiting(record.name),
            has_secret=bool(secrets.secret),
            headers=sorted(secrets.headers),
            test=record.test,
        )


def check_target(spec: TargetSpec) -> None:
    """Raises UsageError."""
    _one_of(spec.kind, ["smtp", "webhook", "metric", "pushgateway"], "kind")
    _check_shipping(spec)
    if not 1 <= spec.attempts_max <= limits_notify.ATTEMPTS_MAX:
        raise UsageError(f"attempts must be 1 to {limits_notify.ATTEMPTS_MAX}")
    if spec.fingerprint:
        parse_fingerprint(spec.fingerprint)
        if spec.ca or (spec.tls == "none" and spec.kind == "smtp") or spec.url.startswith("http:"):
            raise UsageError(
                "a pinned certificate needs TLS, and replaces --ca-file", hint="leave --ca-file out, use https or TLS"
            )
    if not 0.1 <= spec.retry_seconds <= limits_notify.BACKOFF_SECONDS_MAX:
        raise UsageError(f"the first retry must be after 0.1 to {limits_notify.BACKOFF_SECONDS_MAX:.0f} seconds")
    if spec.kind == "smtp":
        _one_of(spec.tls, ["starttls", "implicit", "none"], "tls")
        if not spec.host or not spec.host.isprintable() or not 0 <= spec.port <= 65_535:
            raise UsageError("the mail server's host or port is not valid", hint="give --host, and --port 1 to 65535")
        if spec.username and spec.tls == "none":
            raise UsageError("a password would go over the wire unencrypted", hint="use --tls starttls or implicit")
        _check_addresses([spec.sender, *spec.recipients])
        if not 1 <= len(spec.recipients) <= limits_notify.RECIPIENTS_MAX:
            raise UsageError(f"an smtp target needs 1 to {limits_notify.RECIPIENTS_MAX} recipients", hint="give --to")
        return
    if len(spec.template) > limits_notify.TEMPLATE_CHARS_MAX:
        raise UsageError(f"the template has more than {limits_notify.TEMPLATE_CHARS_MAX} characters")
    check_template(spec.template)
    try:
        parts = urlsplit(spec.url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and spec.url.isprintable()
        bare = parts.username is None and parts.password is None
    except ValueError:
        valid = bare = False
    if not valid or not bare:
        raise UsageError("the address is not valid", hint="http:// or https://HOST[:PORT]/PATH, without credentials")


def severities(least: str) -> list[str]:
    """That one and what is worse. Raises UsageError."""
    _one_of(least, list(Severity), "severity")
    return [str(one) for one in Severity if one.rank >= Severity(least).rank]


def check_source(source: str) -> None:
    """Raises UsageError."""
    _one_of(source, list(EventSource), "source")


def _check_shipping(spec: TargetSpec) -> None:
    """Raises UsageError."""
    if spec.logs:
        _one_of(spec.logs, list(LEVELS), "level of log lines")
    if spec.figures_seconds and spec.figures_seconds < limits_notify.FIGURES_SECONDS_MIN:
        raise UsageError(f"figures can be sent every {limits_notify.FIGURES_SECONDS_MIN} seconds at most")
    if spec.kind == "pushgateway" and not spec.figures_seconds:
        raise UsageError("a push gateway gets figures only", hint="say how often: --every 1m")
    if (spec.logs and spec.kind != "metric") or (spec.figures_seconds and spec.kind not in ("metric", "pushgateway")):
        raise UsageError(f"a target of kind {spec.kind} takes no such figures or logs", hint="use metric")


def _check_addresses(addresses: Sequence[str]) -> None:
    for address in addresses:
        if not _ADDRESS.fullmatch(address) or len(address) > 254:
            raise UsageError(f"{address[:80]!r} is no mail address", hint="such as admin@example.com")


def _one_of(word: str, known: Sequence[str], what: str) -> None:
    if word not in known:
        raise UsageError(f"{what} {word[:64]!r} is not known", hint=f"use one of {', '.join(known)}")


def _history(row: Posted) -> HistoryView:
    return HistoryView(
        id=row.id,
        time=format_time(datetime.fromtimestamp(row.time_ns // 1_000_000_000, tz=UTC)),
        target=row.target,
        state=row.state,
        attempts=row.attempts,
        text=str(row.event["text"]),
        error=row.error,
        payload=row.payload,
        payload_chars=row.chars,
        command=Sent(row.payload, row.command).line if row.chars == len(row.payload) else "",
    )
