"""Who the hosts are: invitations, joining, tags, removal; and the identity that each agent gets.

Used by `services.hosts`, which adds whether they can be heard. An agent's identity is the token `agent-NAME@ibs!agent`
of a user of its own that has no rights: what it may do comes with each task it is given. A join token is a secret of
256 bits kept as a keyed digest, for one host, one use and a stated time. Everything belongs to the trio thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import trio

from ibs.catalog.hosts import HostRecord, HostTable
from ibs.core import limits
from ibs.core.events import Event, EventSource, Severity
from ibs.core.names import check_name, format_time
from ibs.errors import ConflictError, IbsError, NotAuthenticated, NotFoundError, UsageError
from ibs.log import get_logger
from ibs.ports.clock import Clock
from ibs.security.attempts import Attempts
from ibs.security.identities import Identities
from ibs.security.tokens import new_secret, secret_fits, token_digest
from ibs.wire.hosts import AgentJoin, AgentJoined, HostInvite, HostUpdate
from ibs.wire.system import TokenCreate, TokenCreated, UserCreate

_NS: Final = 1_000_000_000
_log = get_logger("api")


@dataclass(frozen=True, slots=True)
class Invited:
    """A fresh invitation. `token` is told here only."""

    record: HostRecord
    token: str


def agent_user(name: str) -> str:
    """The user that stands for the agent of that host."""
    return f"agent-{name}@ibs"


def agent_token(name: str) -> str:
    """The identity of the agent of that host."""
    return f"{agent_user(name)}!agent"


class HostBook:
    """The hosts. `node` is the server's own name; `key` digests join tokens. Call `load` once before."""

    def __init__(
        self,
        table: HostTable,
        identities: Identities,
        key: bytes,
        *,
        clock: Clock,
        node: str,
        publish: Callable[[Event], None],
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._table = table
        self._identities = identities
        self._key = key
        self._clock = clock
        self._node = node
        self._publish = publish
        self._entropy = entropy
        self._attempts = Attempts(clock)
        self._hosts: dict[str, HostRecord] = {}
        self._changing = trio.Lock()

    async def load(self) -> None:
        """Read all rows."""
        self._hosts = {record.name: record for record in await self._table.list()}

    def all(self) -> Sequence[HostRecord]:
        """By name."""
        return [self._hosts[name] for name in sorted(self._hosts)]

    def get(self, name: str) -> HostRecord:
        """Raises NotFoundError."""
        record = self._hosts.get(name)
        if record is None:
            raise NotFoundError(
                f"no host {name[:64]}", hint=f"see: ironcore-backup host list; or invite it: host invite {name[:64]}"
            )
        return record

    def of_agent(self, auth_id: str) -> HostRecord | None:
        """The host whose agent this identity is."""
        name = auth_id.removeprefix("agent-").partition("@")[0]
        record = self._hosts.get(name)
        return record if record is not None and record.auth_id == auth_id else None

    async def invite(self, by: str, request: HostInvite) -> Invited:
        """A new join token for a host. An older one that was not used holds no more. Raises UsageError, ConflictError.

        *Durability*: kept when this returns.
        """
        name = self._check(request)
        secret, now = new_secret(self._entropy), self._clock.now_ns()
        async with self._changing:
            known = self._hosts.get(name)
            if known is not None and known.joined_ns is not None and not request.again:
                raise ConflictError(
                    f"host {name} has joined already",
                    hint=f"to give it a new identity: ironcore-backup host invite {name} --again",
                )
            record = replace(
                known or HostRecord(name, now),
                tags=_tags(request.tags) if request.tags or known is None else known.tags,
                project=_project(request.project) if request.project or known is None else known.project,
                invite_digest=self._digest(name, secret),
                invite_expires_ns=now + request.valid_seconds * _NS,
                invite_used_ns=None,
            )
            await self._table.put(record)
            self._hosts[name] = record
        self._tell("host.invited", f"host {name} was invited by {by}", host=name, by=by)
        return Invited(record, secret)

    async def join(self, peer: str, request: AgentJoin) -> AgentJoined:
        """Exchange a join token for the host's identity; an older identity of the host holds no more.

        Raises NotAuthenticated. *Durability*: the token is used up before the identity is made: killed in between, the
        host has to be invited again.
        """
        name = request.name
        record = self._hosts.get(name)
        digest = record.invite_digest if record is not None else None
        fits = secret_fits(self._key, _subject(name), request.token, digest)
        now = self._clock.now_ns()
        if record is None or not fits or not await self._table.use_invite(name, self._digest(name, request.token), now):
            raise self._refused(peer, name, record if fits else None)
        with trio.CancelScope(shield=True):  # the token is gone: what it buys is made now
            async with self._changing:
                made = await self._identity(name)
                record = replace(
                    self._hosts[name],
                    auth_id=made.auth_id,
                    joined_ns=now,
                    invite_used_ns=now,
                    last_contact_ns=now,
                    address=peer,
                    version=request.version[: limits.AGENT_TEXT_CHARS_MAX],
                    system=request.system[: limits.AGENT_TEXT_CHARS_MAX],
                )
                await self._table.put(record)
                self._hosts[name] = record
        self._tell("host.joined", f"host {name} joined from {peer or 'unknown'}", host=name, peer=peer)
        return AgentJoined(name=name, auth_id=made.auth_id, secret=made.secret, node=self._node)

    async def update(self, by: str, name: str, request: HostUpdate) -> HostRecord:
        """Change tags and project. Raises NotFoundError, UsageError."""
        async with self._changing:
            record = self.get(name)
            if request.tags is not None:
                record = replace(record, tags=_tags(request.tags))
            if request.project is not None:
                record = replace(record, project=_project(request.project))
            await self._table.put(record)
            self._hosts[name] = record
        self._tell("host.changed", f"host {name} was changed by {by}", host=name, by=by)
        return record

    async def remove(self, by: str, name: str) -> None:
        """Forget the host and its identity; its backups stay. Raises NotFoundError."""
        async with self._changing:
            record = self.get(name)
            with trio.CancelScope(shield=True):
                if record.auth_id:
                    await self._forget_identity(by, name)
                await self._table.remove(name)
                del self._hosts[name]
        self._tell("host.removed", f"host {name} was removed by {by}", host=name, by=by)

    async def heard(self, name: str, *, version: str, system: str, address: str) -> None:
        """Note what an agent says of itself; written when it is news."""
        known = self._hosts.get(name)
        if known is None:
            return
        texts = [text[: limits.AGENT_TEXT_CHARS_MAX] for text in (version, system, address)]
        if texts == [known.version, known.system, known.address]:
            return
        async with self._changing:
            known = self._hosts.get(name)
            if known is not None:
                self._hosts[name] = replace(known, version=texts[0], system=texts[1], address=texts[2])
                await self._table.put(self._hosts[name])

    def note_contact(self, name: str) -> None:
        """The agent was heard just now; on disk with the next `keep_contacts`."""
        record = self._hosts.get(name)
        if record is not None:
            self._hosts[name] = replace(record, last_contact_ns=self._clock.now_ns())

    async def keep_contacts(self, names: Sequence[str]) -> None:
        """Write when these were last heard."""
        times: Mapping[str, int] = {
            name: self._hosts[name].last_contact_ns or 0
            for name in names
            if name in self._hosts and self._hosts[name].last_contact_ns
        }
        if times:
            await self._table.contacts(times)

    def _check(self, request: HostInvite) -> str:
        name = check_name(request.name, "host name")
        if len(name) > limits.HOST_NAME_CHARS_MAX:
            raise UsageError(
                f"host name {name!r} has {len(name)} characters", hint=f"allowed are {limits.HOST_NAME_CHARS_MAX}"
            )
        if name == self._node:
            raise ConflictError(f"{name} is the server itself", hint="it needs no agent: backup run without --host")
        if not 1 <= request.valid_seconds <= limits.JOIN_SECONDS_MAX:
            raise UsageError(
                f"a join token cannot be valid for {request.valid_seconds} seconds",
                hint=f"use 1s to {limits.JOIN_SECONDS_MAX // 86_400}d",
            )
        return name

    def _digest(self, name: str, secret: str) -> bytes:
        return token_digest(self._key, _subject(name), secret)

    async def _identity(self, name: str) -> TokenCreated:
        """The agent's user and a new token of it."""
        by = f"host {name}"
        try:
            await self._identities.create_user(by, UserCreate(auth_id=agent_user(name), comment=f"agent of {name}"))
        except ConflictError:
            await self._remove_token(by, name)
        return await self._identities.create_token(
            by, TokenCreate(auth_id=agent_token(name), comment="made by joining")
        )

    async def _remove_token(self, by: str, name: str) -> None:
        try:
            await self._identities.remove_token(by, agent_token(name))
        except NotFoundError:
            return

    async def _forget_identity(self, by: str, name: str) -> None:
        try:
            await self._identities.remove_user(by, agent_user(name))
        except NotFoundError:
            return

    def _refused(self, peer: str, name: str, known: HostRecord | None) -> IbsError:
        """Why a join token does not hold; only its holder learns more than that."""
        why = f"the join token is not valid for host {name[:64]}"
        if known is not None and known.invite_used_ns is not None:
            why = f"the join token of host {name} was used already, at {moment(known.invite_used_ns)}"
        elif known is not None:
            why = f"the join token of host {name} expired at {moment(known.invite_expires_ns)}"
        if self._attempts.failed(peer) <= limits.AUTH_FAILURES_MAX:
            _log.warning("a host could not join", host=name[:64], peer=peer, why=why)
            self._tell(
                "host.join-refused",
                f"host {name[:64]} could not join from {peer or 'unknown'}: {why}",
                severity=Severity.WARNING,
                source=EventSource.AUTHENTICATION,
                host=name[:64],
                peer=peer,
            )
        return NotAuthenticated(why, hint=f"ask for a new one: ironcore-backup host invite {name[:64]}")

    def _tell(
        self,
        kind: str,
        text: str,
        *,
        severity: Severity = Severity.NOTICE,
        source: EventSource = EventSource.CONFIGURATION,
        **fields: str,
    ) -> None:
        self._publish(Event(self._clock.now(), source, severity, kind, text[: limits.EVENT_TEXT_CHARS_MAX], fields))


def moment(time_ns: int | None) -> str:
    """RFC 3339; "" for None."""
    return "" if time_ns is None else format_time(datetime.fromtimestamp(time_ns // _NS, UTC))


def _subject(name: str) -> str:
    """What a join token's digest is bound to; never an auth-id."""
    return f"join {name}"


def _tags(tags: Sequence[str]) -> tuple[str, ...]:
    if len(tags) > limits.HOST_TAGS_MAX:
        raise UsageError(f"{len(tags)} tags are too many", hint=f"allowed are {limits.HOST_TAGS_MAX}")
    return tuple(sorted({check_name(tag, "tag") for tag in tags}))


def _project(project: str) -> str:
    return check_name(project, "project") if project else ""
