"""`ironcore-backup certificate …`: what the server shows those who connect, and what they pin."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, run
from ibs.cli.output import Output, OutputOption, print_facts, print_warning
from ibs.core import limits
from ibs.errors import UsageError
from ibs.wire.access import CertificateReplace, CertificateView

root = app("certificate", "The server's certificate. Clients pin its fingerprint: a new one is told to all.")
_PIN = "every client, agent and login pins the new fingerprint before it comes in again; until then it is refused"


def _print(found: CertificateView, output: Output) -> None:
    facts = [
        ("Fingerprint", found.fingerprint),
        ("Expires", f"{found.expires} (in {found.days_left} days)"),
        ("Subject", found.subject),
        ("Issuer", "itself" if found.self_signed else found.issuer),
        ("Names", " ".join(found.names)),
    ]
    print_facts(found, facts, output)


@root.command("show", epilog=example("ironcore-backup certificate show"))
def show(server: ServerOption = None, state_dir: StateDirOption = None, output: OutputOption = Output.TEXT) -> None:
    """Show the certificate: fingerprint, names, when it expires."""

    async def work() -> CertificateView:
        async with administrator(server, state_dir) as api:
            return await api.get("/certificate", CertificateView)

    _print(run(work, output), output)


@root.command("renew", epilog=example("ironcore-backup certificate renew"))
def renew(server: ServerOption = None, state_dir: StateDirOption = None, output: OutputOption = Output.TEXT) -> None:
    """Make a new self-signed certificate with a new key. Connections that are there stay."""

    async def work() -> CertificateView:
        async with administrator(server, state_dir) as api:
            return await api.post("/certificate/renew", CertificateView)

    _print(run(work, output), output)
    print_warning(_PIN)


@root.command("replace", epilog=example("ironcore-backup certificate replace /root/backup.example.pem"))
def replace(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="PEM: the server's certificate first, its chain, its key.")
    ],
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Serve another certificate, such as one of your own authority. Connections that are there stay."""

    async def work() -> CertificateView:
        body = CertificateReplace(pem=_read(file))
        async with administrator(server, state_dir) as api:
            return await api.post("/certificate", CertificateView, body)

    _print(run(work, output), output)
    print_warning(_PIN)


def _read(file: Path) -> str:
    try:
        if file.stat().st_size > limits.PRIVATE_FILE_BYTES_MAX:
            raise UsageError(f"{file} is too large for a certificate and its key")
        return file.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
