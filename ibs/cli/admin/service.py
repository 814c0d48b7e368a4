"""`ironcore-backup service …`: the seven roles."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import trio
import typer

from ibs.cli.admin.status import show_services
from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, fail, run
from ibs.cli.output import Output, OutputOption, print_done
from ibs.client.http import ApiClient
from ibs.errors import FailedError, IbsError, NotFoundError, UnavailableError
from ibs.runtime.settings import default_state_dir
from ibs.wire.system import ServerStatus, ServiceView

root = app("service", "The seven service roles: look at them, restart one, watch one.")

RoleArgument = Annotated[
    str,
    typer.Argument(metavar="ROLE", help="api, scheduler, worker, verifier, gc, sync or notify; or the unit's name."),
]
_RUNNING, _GIVEN_UP = "active (running)", "failed"
_RESTART_SECONDS_MAX = 60.0
_LOOK_SECONDS = 0.1


def _role(text: str) -> str:
    return text.removesuffix(".service").removeprefix("ironcore-backup-")


@root.command("list", epilog=example("ironcore-backup service list"))
def list_services(
    server: ServerOption = None, state_dir: StateDirOption = None, output: OutputOption = Output.TEXT
) -> None:
    """Show the roles, as `ironcore-backup status --services` does."""

    async def work() -> ServerStatus:
        async with administrator(server, state_dir) as api:
            return await api.get("/status", ServerStatus)

    show_services(run(work, output), output)


@root.command("restart", epilog=example("ironcore-backup service restart verifier"))
def restart(
    role: RoleArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Restart one role, also one that has failed for good; the others do not notice.

    What waits in its queue stays; what runs in it ends FAILED.
    """
    name = _role(role)

    async def work() -> ServiceView:
        async with administrator(server, state_dir) as api:
            before = await api.post(f"/services/{name}/restart", ServiceView)
            return await _restarted(api, before)

    after = run(work, output)
    print_done(f"{after.unit} was restarted; it is {after.state}", output, role=after.role, state=after.state)


async def _restarted(api: ApiClient, before: ServiceView) -> ServiceView:
    """The role as it is once it runs again. Raises FailedError when it does not."""
    seen = before
    with trio.move_on_after(_RESTART_SECONDS_MAX):
        while seen.restarts <= before.restarts or seen.state != _RUNNING:
            await trio.sleep(_LOOK_SECONDS)
            try:
                status = await api.get("/status", ServerStatus)
            except UnavailableError:
                continue  # it was the api itself
            seen = next(one for one in status.services if one.role == before.role)
            if seen.restarts > before.restarts and seen.state == _GIVEN_UP:
                break
        else:
            return seen
    why = seen.last_error or "no reason is told"
    raise FailedError(
        f"service {before.role} does not run after its restart: it is {seen.state}: {why}",
        hint=f"see its log, {before.role}.log",
    )


@root.command("watch", epilog=example("ironcore-backup service watch gc --output json | jq .event"))
def watch(
    role: RoleArgument,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Follow one role of the server on this machine: its log lines as they come; its state to systemd.

    This is what the units ironcore-backup-ROLE.service run. It ends with 1 when the role has failed for good.
    """
    name, folder = _role(role), state_dir or default_state_dir()
    try:
        if not os.path.isdir(folder):
            raise NotFoundError(f"there is no state folder {folder}", hint="name the server's with --state-dir")
    except IbsError as error:
        fail(error, output)
    _become_mirror([name, str(Path(folder).absolute()), output.value])


def _become_mirror(arguments: list[str]) -> None:
    """Replace this program by the mirror, which needs a quarter of the memory; in a one-file program just run it."""
    if not getattr(sys, "frozen", False):
        os.execv(sys.executable, [sys.executable, "-I", "-m", "ibs.cli.mirror", *arguments])  # noqa: S606
    from ibs.cli.mirror import main  # noqa: PLC0415 - for the one-file program only

    main(arguments)
