"""What all commands share: running async work, exit statuses, options, and following a task to its end.

Used by every file of `cli`. A command is a plain function that builds its request and calls `run`; errors of ours
become `error:`/`hint:` lines and their exit status here and nowhere else.
"""

from __future__ import annotations

import functools
import io
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar

import trio
import typer

from ibs.cli.output import Output, print_error, print_warning
from ibs.client.config import Credentials, Logins, PinnedBy, resolve_server
from ibs.client.http import ApiClient
from ibs.errors import CancelledError, ExitStatus, FailedError, IbsError, UsageError
from ibs.runtime.allocator import collect_as_usual

P = ParamSpec("P")
T = TypeVar("T")

# Typer brings its own copy of click and exports one of its errors; this is what they all derive from.
_COMMAND_LINE_ERRORS: tuple[type[Any], ...] = typer.BadParameter.__bases__

ServerOption = Annotated[
    str | None,
    typer.Option("--server", envvar="IBS_SERVER", help="Server to talk to, HOST[:PORT]; needs a login or IBS_TOKEN."),
]
StateDirOption = Annotated[
    Path | None,
    typer.Option("--state-dir", envvar="IBS_STATE_DIR", help="State folder of a server on this machine."),
]


class Status:
    """The exit status a command ends with; commands set `code` for OK with warnings and failed tasks."""

    def __init__(self) -> None:
        self.code = ExitStatus.OK


def run(work: Callable[[], Awaitable[T]], output: Output = Output.TEXT) -> T:
    """Run `work` in trio; print an error of ours and exit with its status; SIGINT and SIGTERM cancel."""
    collect_as_usual()
    try:
        return trio.run(_with_signals, work)
    except IbsError as error:
        fail(error, output)
    except BaseExceptionGroup as group:
        cause = first_error(group)
        if cause is None:
            raise
        fail(cause, output)
    except KeyboardInterrupt:
        fail(CancelledError("cancelled"), output)


def do(work: Callable[[], T], output: Output = Output.TEXT) -> T:
    """As `run`, for what needs no server and no event loop."""
    try:
        return work()
    except IbsError as error:
        fail(error, output)
    except KeyboardInterrupt:
        fail(CancelledError("cancelled"), output)


def fail(error: IbsError, output: Output = Output.TEXT) -> NoReturn:
    """Print the error and end the program with its status."""
    print_error(error, output)
    raise typer.Exit(error.exit_status)


def first_error(group: BaseExceptionGroup) -> IbsError | None:
    """The first error of ours in nested groups."""
    for error in group.exceptions:
        if isinstance(error, IbsError):
            return error
        if isinstance(error, KeyboardInterrupt):
            return CancelledError("cancelled")
        if isinstance(error, BaseExceptionGroup) and (found := first_error(error)) is not None:
            return found
    return None


async def _with_signals(work: Callable[[], Awaitable[T]]) -> T:
    """Run `work`; SIGTERM and SIGINT cancel it, so that it can end its session before the program does."""
    result: list[T] = []
    stopped = False

    async def watch(scope: trio.CancelScope, task_status: trio.TaskStatus[None]) -> None:
        nonlocal stopped
        # Until the first signal only: a second one ends the program at once.
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for _number in signals:
                stopped = True
                scope.cancel()
                return

    async with trio.open_nursery() as nursery:  # noqa: TID251 - the program's only root
        await nursery.start(functools.partial(watch, nursery.cancel_scope))
        result.append(await work())
        nursery.cancel_scope.cancel()
    if stopped and not result:
        raise CancelledError("cancelled", hint="what the server already holds is not sent again next time")
    return result[0]


@asynccontextmanager
async def administrator(server: str | None, state_dir: Path | None) -> AsyncIterator[ApiClient]:
    """A connection of the administrator's CLI, found by option, environment, login or local files."""
    if server is not None and state_dir is not None and os.environ.get("IBS_STATE_DIR") == str(state_dir):
        state_dir = None  # a server named on purpose wins over the environment's folder
    credentials = resolve_server(server, state_dir, os.environ, Logins())
    async with connect(credentials) as api:
        yield api


def connect(credentials: Credentials) -> ApiClient:
    """An unopened client; use as an async context manager."""
    return ApiClient(
        credentials.server.url,
        fingerprint=credentials.fingerprint,
        auth_id=credentials.auth_id,
        secret=credentials.secret,
        learned=partial(_learned, credentials),
    )


def _learned(credentials: Credentials, pins: str) -> None:
    """The server told that its certificate will change, or has: keep that where the old pin came from."""
    server = credentials.server
    if credentials.pinned_by is PinnedBy.LOGIN:
        try:
            Logins().repin(server, pins)
        except (OSError, UsageError) as error:
            print_warning(f"the coming certificate of {server} could not be kept: {error}; then log in again")
    elif credentials.pinned_by is PinnedBy.ENVIRONMENT and "," in pins:
        print_warning(f"{server} will have another certificate soon: set IBS_FINGERPRINT={pins}")


def ask_secret(prompt: str) -> str:
    """Ask without echo on a terminal; nothing when there is none."""
    if not sys.stdin.isatty():
        return ""
    return str(typer.prompt(prompt.rstrip(": "), hide_input=True))


def app(name: str, text: str, **options: Any) -> typer.Typer:
    """A typer application in the house style: help with examples, no rich tracebacks, completion on the root only."""
    options.setdefault("add_completion", False)
    options.setdefault("no_args_is_help", True)
    return typer.Typer(
        name=name,
        help=text,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
        **options,
    )


def example(*lines: str) -> str:
    """The epilog of a command's help: one example a line."""
    return "[bold]Example:[/bold] " + "  ·  ".join(f"[cyan]{line}[/cyan]" for line in lines)


def main_of(root: typer.Typer) -> Callable[[], None]:
    """The entry point: every mistake is one sentence and its exit status; a broken pipe ends quietly."""

    @functools.wraps(root)
    def main() -> None:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # names of files need not fit the terminal's encoding
        try:
            status = root(standalone_mode=False)
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = ExitStatus.FAILED
        except typer.Abort:
            status = _told(CancelledError("cancelled"))
        except Exception as error:  # noqa: BLE001 - the program's border: no traceback reaches a user
            status = _exit_status(error)
        sys.exit(status if isinstance(status, int) else ExitStatus.OK)

    return main


def _exit_status(error: Exception) -> int:
    """Tell what the command line got wrong, or that the program is defective."""
    if isinstance(error, _COMMAND_LINE_ERRORS):
        command = getattr(error, "ctx", None)
        if command is not None and type(error).__name__ == "NoArgsIsHelpError":
            sys.stdout.write(command.get_help())  # with rich it prints by itself and returns nothing
            return ExitStatus.USAGE
        place = command.command_path if command is not None else "the command"
        return _told(UsageError(error.format_message(), hint=f"see: {place} --help"))
    if os.environ.get("IBS_DEBUG"):
        raise error
    cause: BaseException = error
    while isinstance(cause, BaseExceptionGroup):  # its own words say only how many there are
        cause = cause.exceptions[0]
    what = f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
    return _told(FailedError(f"internal error: {what}", hint="this is a defect; set IBS_DEBUG=1 to see where it is"))


def _told(error: IbsError) -> int:
    """Print an error that no command could print, in the form that the command line asks for."""
    asked = " ".join(sys.argv[1:])
    wants_json = re.search(r"(?:^| )(?:--output|-o)[ =]?json(?: |$)", asked)
    print_error(error, Output.JSON if wants_json else Output.TEXT)
    return error.exit_status
