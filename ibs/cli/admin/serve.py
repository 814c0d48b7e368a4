"""`ironcore-backup serve`."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Annotated

import typer

from ibs.cli.common import fail
from ibs.errors import IbsError
from ibs.runtime.settings import load_settings


def serve(
    config: Annotated[Path | None, typer.Option(help="Configuration file (TOML).")] = None,
    state_dir: Annotated[
        Path | None, typer.Option(envvar="IBS_STATE_DIR", help="Where the server keeps its state.")
    ] = None,
    log_dir: Annotated[Path | None, typer.Option(envvar="IBS_LOG_DIR", help="Where ROLE.log files go.")] = None,
    listen: Annotated[str | None, typer.Option(envvar="IBS_LISTEN", help="HOST:PORT; port 0 takes a free one.")] = None,
) -> None:
    """Run the server until SIGTERM or Ctrl-C.

    Makes its certificate and first token at the first start, and prints the fingerprint that clients pin.
    """
    from ibs import app  # noqa: PLC0415 - the server's code is loaded to serve only; other commands start faster

    try:
        settings = load_settings(config=config, state_dir=state_dir, log_dir=log_dir, listen=listen)
        status = app.run(settings)
    except IbsError as error:
        fail(error)
    except Exception:
        traceback.print_exc()  # of a server's defect its owner needs to see everything, also when no log was open yet
        raise
    raise typer.Exit(status)
