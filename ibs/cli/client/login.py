"""`ironcore-backup-client login` and `logout`."""

from __future__ import annotations

import os

from ibs.cli.client.connection import RepositoryOption
from ibs.cli.common import run
from ibs.cli.login import log_in, log_out
from ibs.cli.output import Output, OutputOption
from ibs.client.config import Repository
from ibs.errors import UsageError


def _repository(text: str | None) -> Repository:
    text = text or os.environ.get("IBS_REPOSITORY")
    if not text:
        raise UsageError("no repository given", hint="use --repository or IBS_REPOSITORY")
    return Repository.parse(text)


def login(repository: RepositoryOption = None, output: OutputOption = Output.TEXT) -> None:
    """Pin the server's certificate and keep the secret for the repository's server (file mode 0600)."""

    async def work() -> None:
        found = _repository(repository)
        await log_in(found.server, found.auth_id, output)

    run(work, output)


def logout(repository: RepositoryOption = None, output: OutputOption = Output.TEXT) -> None:
    """Forget secret and pinned certificate of the repository's server."""

    async def work() -> None:
        log_out(_repository(repository).server, output)

    run(work, output)
