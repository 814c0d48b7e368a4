"""What the engine asks of the server's catalog: configured datastores and registered keys.

Implemented by `catalog` (SQLite) and by small fakes in tests; used by `engine`. Values are frozen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class DatastoreRecord:
    """A configured datastore. `path` is absolute; `uuid` is the identity found in `.ibs/datastore.json`."""

    name: str
    path: str
    uuid: str
    comment: str = ""


class DatastoreRecords(Protocol):
    """The list of configured datastores. *Durability*: a change is durable when the call returns."""

    async def list(self) -> Sequence[DatastoreRecord]:
        """All of them, by name."""
        ...

    async def add(self, record: DatastoreRecord) -> None:
        """Raises ConflictError when the name or the path is taken."""
        ...

    async def update(self, record: DatastoreRecord) -> None:
        """Replace the record of that name. Raises NotFoundError."""
        ...

    async def remove(self, name: str) -> None:
        """Raises NotFoundError."""
        ...


@dataclass(frozen=True, slots=True)
class RegisteredKey:
    """A data key the server knows of, by its public half only.

    `fingerprint` is the colon form; `signer` the Ed25519 public key (32 bytes) its manifests are signed with.
    """

    fingerprint: str
    signer: bytes


class KeyRegistry(Protocol):
    """Which data keys clients may use where, and where they must use one."""

    async def find(self, store: str, namespace: str, fingerprint: str) -> RegisteredKey | None:
        """The key registered for that place, or None."""
        ...

    async def encryption_required(self, store: str, namespace: str) -> bool:
        """Whether only encrypted snapshots may be made in that place."""
        ...


class NoKeys:
    """A register without keys, which demands none: every encrypted session is refused."""

    async def find(self, store: str, namespace: str, fingerprint: str) -> RegisteredKey | None:  # noqa: ARG002
        """None."""
        return None

    async def encryption_required(self, store: str, namespace: str) -> bool:  # noqa: ARG002 - a KeyRegistry
        """False."""
        return False
