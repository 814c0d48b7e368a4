"""The audit log: every change and every refusal, written down before the caller hears of it.

Made by `app`, fed by `control.auditing`, read by `control.routes.audit`. Callers that come together share one flush.
Invariants: rows are written in the order of their numbers; the head (number and hash of the last row answered for) is
kept apart from the files, in the catalog, so that rows cut off at the end are noticed; when rows cannot be written no
change is let through, while reading goes on; refusals are written singly up to a bound a minute, then counted.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import trio

from ibs.core import audit, limits
from ibs.core.audit import AuditRow, Link, Outcome
from ibs.core.events import Event
from ibs.core.names import format_time
from ibs.core.tasks import TaskState, TaskType
from ibs.errors import FailedError, FormatError, IbsError, NoSpace, NotFoundError
from ibs.log import get_logger, redact
from ibs.ports.clock import Clock
from ibs.ports.pool import Pool
from ibs.services.audit_files import AuditFiles
from ibs.wire.audit import AuditCheck, AuditView

HEAD: Final = "audit-head"
_TASKS: Final = frozenset({TaskType.GC.value, TaskType.PRUNE.value})
_log = get_logger("api")


class HeadKeeper(Protocol):
    """Where the head is kept; the catalog's settings."""

    async def get(self, name: str) -> str | None: ...

    async def set(self, name: str, value: str) -> None: ...


class Audit:
    """One a server. `open` it before it is used."""

    def __init__(self, folder: Path, heads: HeadKeeper, *, pool: Pool, clock: Clock) -> None:
        self._files = AuditFiles(folder)
        self._heads = heads
        self._pool = pool
        self._clock = clock
        self._link: Link = audit.BEGIN
        self._one = trio.Lock()
        self._waiting: list[tuple[dict[str, Any], list[IbsError | None]]] = []
        self._minute = 0
        self._singly = 0
        self._counted: dict[tuple[str, str, str, str, str], int] = {}

    async def open(self) -> None:
        """Take up the chain where it ended. Raises FailedError, NoSpace.

        When rows are missing at its end the next row goes on from the head that was kept: the gap stays to be seen.
        """
        found = await self._pool.disk(self._files.open)
        head = _parse(await self._heads.get(HEAD))
        self._link = found
        if head.n > found.n:
            self._link = head
            _log.error("rows are missing at the end of the audit log", last=found.n, expected=head.n)
        elif head.n:  # rows beyond the head are those of a crash; the head's own must be the one that was kept
            row = await self._pool.disk(self._files.row, head.n)
            if row is None or row[1] != head.hash.hex():
                self._link = Link(found.n, head.hash)
                _log.error("the end of the audit log is not the one that was written", row=head.n)

    async def admit(self) -> None:
        """Called before a change: there is room to write down what comes of it. Raises NoSpace, FailedError."""
        try:
            await self._pool.disk(self._files.keep_reserve)
        except FailedError as error:
            raise _refused(error) from error

    async def note(
        self,
        *,
        auth_id: str,
        peer: str,
        action: str,
        target: str,
        outcome: Outcome,
        error: IbsError | None = None,
        before: Any = None,
        after: Any = None,
    ) -> None:
        """Write a row. *Durability*: kept when this returns. *Cancellation*: written all the same.

        Raises NoSpace, FailedError when it could not be written. Refusals beyond a minute's bound are only counted,
        and come as one row for each kind in the next minute.
        """
        facts = {
            "auth_id": auth_id[: limits.AUDIT_TEXT_CHARS_MAX],
            "peer": peer,
            "action": action,
            "target": redact(target[: limits.AUDIT_TEXT_CHARS_MAX]),
            "outcome": str(outcome),
            "code": error.code if error is not None else "",
            "message": redact(error.message[: limits.AUDIT_TEXT_CHARS_MAX]) if error is not None else "",
            "before": audit.bounded(redact(before)),
            "after": audit.bounded(redact(after)),
        }
        with trio.CancelScope(shield=True):
            if outcome is not Outcome.OK and self._is_too_many(facts):
                return
            await self._write(facts)

    def _is_too_many(self, facts: Mapping[str, Any]) -> bool:
        minute = self._clock.now_ns() // 60_000_000_000
        if minute != self._minute:
            self._minute, self._singly = minute, 0
        self._singly += 1
        if self._singly <= limits.AUDIT_REFUSALS_PER_MINUTE:
            return False
        kind = (facts["auth_id"], facts["peer"], facts["action"], facts["outcome"], facts["code"])
        if kind not in self._counted and len(self._counted) >= limits.AUDIT_KINDS_COUNTED_MAX:
            kind = ("", "", "various", facts["outcome"], "")
        self._counted[kind] = self._counted.get(kind, 0) + 1
        return True

    async def flush_counted(self) -> None:
        """Write what was only counted, one row a kind. Raises NoSpace, FailedError."""
        counted, self._counted = self._counted, {}
        for (auth_id, peer, action, outcome, code), count in counted.items():
            facts = {"auth_id": auth_id, "peer": peer, "action": action, "outcome": outcome, "code": code}
            await self._write({**facts, "target": "", "count": count})

    async def keep_counting(self) -> None:
        """Write counted rows each minute. Runs for ever, in the background."""
        while True:
            await self._clock.sleep(limits.AUDIT_COUNT_SECONDS)
            try:
                await self.flush_counted()
            except IbsError as error:
                _log.error("counted refusals could not be written", error=error.message)

    async def watch(self, events: AsyncIterable[Event]) -> None:
        """Note how tasks that take data away ended, whoever began them: most begin by a schedule, with no request.

        Runs for ever, in the background. After the fact: it holds up nothing.
        """
        async for event in events:
            fields = event.fields
            if event.kind != "task.ended" or fields.get("type") not in _TASKS:
                continue
            good = fields.get("state") in {TaskState.OK, TaskState.WARNING}
            try:
                await self.note(
                    auth_id=str(fields.get("auth_id", "")),
                    peer="",
                    action=f"task_{fields['type']}",
                    target=str(fields.get("id", "")),
                    outcome=Outcome.OK if good else Outcome.FAILED,
                    after={name: fields.get(name) for name in ("upid", "state", "message")},
                )
            except IbsError as error:
                _log.error("the end of a task could not be written into the audit log", error=error.message)

    async def close(self) -> None:
        """Write what is still only counted."""
        await self.flush_counted()

    async def _write(self, facts: dict[str, Any]) -> None:
        """Whoever has the lock writes for all that wait: a group commit."""
        answer: list[IbsError | None] = []
        self._waiting.append((facts, answer))
        async with self._one:
            if not answer:
                group, self._waiting = self._waiting, []
                failed = await self._write_group([waiting[0] for waiting in group])
                for _facts, other in group:
                    other.append(failed)
        if answer[0] is not None:
            raise _refused(answer[0]) from answer[0]

    async def _write_group(self, group: list[dict[str, Any]]) -> IbsError | None:
        link, lines, now = self._link, [], format_time(self._clock.now())
        for facts in group:
            line, link = audit.encode(AuditRow(n=link.n + 1, time=now, **facts), link)
            lines.append(line)
        try:
            await self._pool.disk(self._files.append, lines)
            self._link = link
            await self._heads.set(HEAD, f"{link.n} {link.hash.hex()}")
        except IbsError as error:
            _log.error("the audit log cannot be written", error=error.message)
            return error
        return None

    async def find(self, wanted: Mapping[str, str], limit: int) -> list[AuditView]:
        """Rows that fit, newest first."""
        return [_view(row, digest) for row, digest in await self._pool.disk(self._files.find, wanted, limit)]

    async def show(self, n: int) -> AuditView:
        """One row. Raises NotFoundError."""
        found = await self._pool.disk(self._files.row, n)
        if found is None:
            raise NotFoundError(f"no audit row {n}", hint="see: ironcore-backup audit list")
        return _view(*found)

    async def verify(self) -> AuditCheck:
        """Follow the whole chain, up to what was answered for when this was called."""
        async with self._one:
            head = _parse(await self._heads.get(HEAD))
        return await self._pool.disk(self._files.check, head)

    async def export(self) -> AsyncIterator[bytes]:
        """The stored bytes of all files, in order, a piece at a time."""
        for path in await self._pool.disk(self._files.paths):
            offset = 0
            while piece := await self._pool.disk(_read, path, offset):
                offset += len(piece)
                yield piece


def _read(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(limits.AUDIT_PIECE_BYTES)


def _parse(text: str | None) -> Link:
    if not text:
        return audit.BEGIN
    number, _, digest = text.partition(" ")
    try:
        return Link(int(number), bytes.fromhex(digest))
    except ValueError as error:
        raise FormatError("the kept head of the audit log is damaged") from error


def _refused(error: IbsError) -> IbsError:
    """The words for a change that cannot be written down."""
    message = f"changes are refused, since the audit log cannot be written: {error.message}"
    hint = "free space for the state folder, then try again; reading goes on"
    told: IbsError = NoSpace(".", "bytes") if isinstance(error, NoSpace) else FailedError(message)
    told.message, told.hint, told.args = message, hint, (message,)
    return told


def _view(row: AuditRow, digest: str) -> AuditView:
    return AuditView(
        n=row.n,
        time=row.time,
        auth_id=row.auth_id,
        peer=row.peer,
        action=row.action,
        target=row.target,
        outcome=row.outcome,
        code=row.code,
        message=row.message,
        count=row.count,
        before=row.before,
        after=row.after,
        hash=digest,
    )
