"""Which datastore, as whom: the options all client commands share."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

import typer

from ibs.cli.common import ask_secret, connect
from ibs.client.config import Logins, Repository, resolve_repository
from ibs.client.http import ApiClient
from ibs.core.names import Namespace, SnapshotName

RepositoryOption = Annotated[
    str | None,
    typer.Option("--repository", envvar="IBS_REPOSITORY", help="[AUTH-ID@]HOST[:PORT]:DATASTORE."),
]
NamespaceOption = Annotated[str, typer.Option("--namespace", "--ns", envvar="IBS_NAMESPACE", help="Such as a/b.")]
SnapshotArgument = Annotated[
    str, typer.Argument(metavar="SNAPSHOT", help="host/web01/2026-11-22T19:00:00Z, or host/web01 for its newest.")
]
ArchiveArgument = Annotated[str, typer.Argument(metavar="ARCHIVE", help="Such as etc.tree or disk.img.")]


@dataclass(frozen=True, slots=True)
class Connection:
    """An open connection and the datastore meant."""

    api: ApiClient
    repository: Repository

    @property
    def store(self) -> str:
        """Name of the datastore."""
        return self.repository.store


@asynccontextmanager
async def connection(repository: str | None) -> AsyncIterator[Connection]:
    """Connect by option, environment or saved login. Raises UsageError, NotAuthenticated, ServerUnreachable."""
    found, credentials = resolve_repository(repository, os.environ, Logins(), ask_secret)
    async with connect(credentials) as api:
        yield Connection(api, found)


def snapshot_name(text: str, namespace: str) -> SnapshotName:
    """A snapshot as typed, in the namespace given by option unless it names one. Raises UsageError."""
    return SnapshotName.parse(text, Namespace.parse(namespace))
