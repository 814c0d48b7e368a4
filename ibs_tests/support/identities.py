"""A server's identities over a real catalog, with a clock that stands still: for tests of `security`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ibs.catalog.catalog import Catalog, open_catalog
from ibs.core.events import Event
from ibs.runtime.bus import Bus
from ibs.runtime.clock import ManualClock
from ibs.security.access import AccessChecker
from ibs.security.identities import Identities
from ibs.wire.system import AclEntry, TokenCreate, UserCreate

KEY = b"k" * 32
ADMIN = "root@ibs!local"


@dataclass
class World:
    catalog: Catalog
    clock: ManualClock
    bus: Bus[Event]
    checker: AccessChecker
    identities: Identities
    events: list[Event]

    async def token(self, auth_id: str, *, expires: str = "") -> str:
        """Make the token (and its user); return its Authorization header."""
        user = auth_id.partition("!")[0]
        if user not in [view.auth_id for view in await self.identities.users()]:
            await self.identities.create_user(ADMIN, UserCreate(auth_id=user))
        made = await self.identities.create_token(ADMIN, TokenCreate(auth_id=auth_id, expires=expires))
        return f"Bearer {made.auth_id}:{made.secret}"

    async def grant(self, path: str, role: str, auth_id: str) -> None:
        await self.identities.grant(ADMIN, AclEntry(path=path, role=role, auth_id=auth_id))


class Recording(Bus[Event]):
    """A bus that keeps what was published."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []

    def publish(self, fact: Event) -> None:
        self.events.append(fact)
        super().publish(fact)


@asynccontextmanager
async def open_world(state: Path, *, inline: bool = False) -> AsyncIterator[World]:
    clock, bus = ManualClock(), Recording()
    async with open_catalog(state, inline=inline) as catalog:
        checker = AccessChecker(catalog.access, KEY, clock=clock, bus=bus)
        identities = Identities(catalog.access, checker, KEY, clock=clock, bus=bus)
        yield World(catalog, clock, bus, checker, identities, bus.events)
