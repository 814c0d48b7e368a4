"""`ironcore-backup login` and `logout`: administer a server on another machine."""

from __future__ import annotations

from typing import Annotated

import typer

from ibs.cli.common import run
from ibs.cli.login import log_in, log_out
from ibs.cli.output import Output, OutputOption
from ibs.client.config import Server

ServerArgument = Annotated[str, typer.Argument(metavar="HOST[:PORT]", help="The server; port 8007 by default.")]


def login(
    server: ServerArgument,
    auth_id: Annotated[str, typer.Option(help="user@realm, or user@realm!token; asked for when left out.")] = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Pin a server's certificate and log in to it, for use with --server: as a person, or with a token."""

    async def work() -> None:
        await log_in(Server.parse(server), auth_id, output)

    run(work, output)


def logout(server: ServerArgument, output: OutputOption = Output.TEXT) -> None:
    """Forget the token and the pinned certificate of a server."""

    async def work() -> None:
        log_out(Server.parse(server), output)

    run(work, output)
