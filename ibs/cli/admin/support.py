"""`ironcore-backup support-bundle`: evidence for somebody who cannot look at the server."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from ibs.cli.common import ServerOption, StateDirOption, administrator, run
from ibs.cli.follow import end, follow_task
from ibs.cli.output import Output, say
from ibs.errors import ExitStatus, FailedError
from ibs.wire.common import TaskStarted
from ibs.wire.support import BundleRequest


def support_bundle(
    task: Annotated[list[str] | None, typer.Option("--task", metavar="UPID", help="Also this task's log.")] = None,
    file: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="A new file to write to.")] = None,
    no_redact: Annotated[bool, typer.Option("--no-redact", help="Leave names of hosts, users and paths in.")] = False,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
) -> None:
    """Collect logs, task logs, figures, notification history and audit log into one tar.zst, secrets removed."""
    path = file or Path(f"support-bundle-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar.zst")

    async def work() -> int:
        if path.exists():
            raise FailedError(f"{path} is there already", hint="give another name with --output")
        async with administrator(server, state_dir) as api:
            request = BundleRequest(tasks=task or [], redact=not no_redact)
            upid = (await api.post("/support/bundles", TaskStarted, request)).upid
            status = await follow_task(api, upid, Output.TEXT, detach=False)
            if status not in {ExitStatus.OK, ExitStatus.WARNING}:
                return status
            try:
                with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as sink:
                    async for piece in api.stream(f"/support/bundles/{upid}"):
                        sink.write(piece)
            except OSError as error:
                raise FailedError(f"cannot write {path}: {error.strerror}", hint="give a file with --output") from error
        say(f"{path}: open index.html in it first")
        return status

    end(run(work))
