"""`ironcore-backup datastore clock …`: the datastore's own clock, by which bin and trash expire."""

from __future__ import annotations

from rich.text import Text

from ibs.cli.admin.datastore import StoreArgument
from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, run
from ibs.cli.follow import end
from ibs.cli.output import Output, OutputOption, harmless, print_facts
from ibs.errors import ExitStatus
from ibs.wire.lifecycle import ClockView

root = app("clock", "The datastore's own clock: it stands still when the machine's clock jumps, and nothing expires.")


def _print(found: ClockView, output: Output) -> None:
    state = Text(harmless(found.frozen), "red") if found.frozen else Text("runs", "green")
    facts: list[tuple[str, str | Text]] = [
        ("Clock", found.time),
        ("Machine", found.wall),
        ("State", Text.assemble("stands still: ", state) if found.frozen else state),
    ]
    if found.confirmed:
        facts.append(("Confirmed", f"{found.confirmed} by {found.confirmed_by}"))
    print_facts(found, facts, output)


@root.command("show", epilog=example("ironcore-backup datastore clock show ibs-primary"))
def show(
    store: StoreArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show the clock, and why nothing expires when it stands still. Exit status 4 then."""

    async def work() -> ClockView:
        async with administrator(server, state_dir) as api:
            return await api.get(f"/datastores/{store}/clock", ClockView)

    found = run(work, output)
    _print(found, output)
    end(ExitStatus.WARNING if found.frozen else ExitStatus.OK)


@root.command("confirm", epilog=example("ironcore-backup datastore clock confirm ibs-primary"))
def confirm(
    store: StoreArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say that the machine's clock is right. Look at `date` first: what is due by it goes for good."""

    async def work() -> ClockView:
        async with administrator(server, state_dir) as api:
            return await api.post(f"/datastores/{store}/clock/confirm", ClockView)

    _print(run(work, output), output)
