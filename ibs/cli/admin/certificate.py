"""`ironcore-backup certificate …`: what the server shows those who connect, and what they pin."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ibs.cli.common import ServerOption, StateDirOption, administrator, app, example, run
from ibs.cli.output import Output, OutputOption, print_facts, print_warning
from ibs.core import limits
from ibs.errors import UsageError
from ibs.units import parse_duration
from ibs.wire.access import CertificateRenew, CertificateReplace, CertificateView

root = app("certificate", "The server's certificate. Clients pin its fingerprint: a new one is told to all.")
_PIN = "who was not told before pins the new fingerprint before it comes in again; until then it is refused"

InOption = Annotated[
    str,
    typer.Option("--in", metavar="TIME", help="Serve it later, as 7d; clients that come by until then learn it."),
]


def _print(found: CertificateView, output: Output) -> None:
    facts = [
        ("Fingerprint", found.fingerprint),
        ("Expires", f"{found.expires} (in {found.days_left} days)"),
        ("Subject", found.subject),
        ("Issuer", "itself" if found.self_signed else found.issuer),
        ("Names", " ".join(found.names)),
    ]
    if found.next_fingerprint:
        facts.append(("Next", f"{found.next_fingerprint} from {found.next_from}"))
        facts.append(("Not told yet", " ".join(found.unaware) or "no host: the agents of all know it"))
    print_facts(found, facts, output)


def _tell(found: CertificateView, output: Output) -> None:
    _print(found, output)
    if found.next_fingerprint:
        print_warning(
            f"who does not come by before {found.next_from} (and every remote of another site) pins it by hand then"
        )
    else:
        print_warning(_PIN)


@root.command("show", epilog=example("ironcore-backup certificate show"))
def show(server: ServerOption = None, state_dir: StateDirOption = None, output: OutputOption = Output.TEXT) -> None:
    """Show the certificate: fingerprint, names, when it expires."""

    async def work() -> CertificateView:
        async with administrator(server, state_dir) as api:
            return await api.get("/certificate", CertificateView)

    _print(run(work, output), output)


@root.command("renew", epilog=example("ironcore-backup certificate renew --in 7d", "ironcore-backup certificate renew"))
def renew(
    later: InOption = "0",
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a new self-signed certificate with a new key. Connections that are there stay.

    With --in, agents and saved logins learn of it over the connection they trust, and are never refused. Without, it
    is served at once: the one that was prepared before, if there is one.
    """

    async def work() -> CertificateView:
        body = CertificateRenew(seconds=parse_duration(later))
        async with administrator(server, state_dir) as api:
            return await api.post("/certificate/renew", CertificateView, body)

    _tell(run(work, output), output)


@root.command("withdraw", epilog=example("ironcore-backup certificate withdraw"))
def withdraw(server: ServerOption = None, state_dir: StateDirOption = None, output: OutputOption = Output.TEXT) -> None:
    """Do not serve the certificate that was prepared; the present one stays."""

    async def work() -> CertificateView:
        async with administrator(server, state_dir) as api:
            await api.delete("/certificate/next")
            return await api.get("/certificate", CertificateView)

    _print(run(work, output), output)


@root.command("replace", epilog=example("ironcore-backup certificate replace /root/backup.example.pem"))
def replace(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="PEM: the server's certificate first, its chain, its key.")
    ],
    later: InOption = "0",
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Serve another certificate, such as one of your own authority. Connections that are there stay."""

    async def work() -> CertificateView:
        body = CertificateReplace(pem=_read(file), seconds=parse_duration(later))
        async with administrator(server, state_dir) as api:
            return await api.post("/certificate", CertificateView, body)

    _tell(run(work, output), output)


def _read(file: Path) -> str:
    try:
        if file.stat().st_size > limits.PRIVATE_FILE_BYTES_MAX:
            raise UsageError(f"{file} is too large for a certificate and its key")
        return file.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
