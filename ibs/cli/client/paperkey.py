"""`ironcore-backup-client key paperkey …`: a key on paper, and back. Its secret is on the page and nowhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ibs.cli.client import keywriting
from ibs.cli.client.keywriting import NoPassphrase
from ibs.cli.common import app, do, example
from ibs.cli.output import Output, OutputOption, print_facts, print_json, print_note, print_warning, say
from ibs.client.paper import page as pages
from ibs.client.paper import pdf, svg, text
from ibs.client.paper import source as sources
from ibs.client.paper.page import Page
from ibs.core import limits_paper, paperkey, paperlines, papertyped
from ibs.core.names import format_time
from ibs.errors import FingerprintMismatch, RefusedError, UsageError
from ibs.security import keyfile as files

root = app(
    "paperkey",
    "Print a key for the safe, and bring it back from there: the way out when keyfile or passphrase are lost.",
    no_args_is_help=False,
    invoke_without_command=True,
)
_STDIN = "-"


class PageFormat(StrEnum):
    """What the page is written as."""

    TEXT = "text"
    SVG = "svg"
    PDF = "pdf"


SourceArgument = Annotated[
    str,
    typer.Argument(help="A scan (PDF, PNG), a photo (PNG, JPEG) or a text file with the lines; - to type them here."),
]
PrintedKeyfile = Annotated[
    str,
    typer.Option("--keyfile", envvar="IBS_KEYFILE", help="The keyfile to print; by default the one of this user."),
]
NewKeyfile = Annotated[
    str,
    typer.Option("--keyfile", envvar="IBS_KEYFILE", help="The keyfile to write; by default the one of this user."),
]


@root.callback(epilog=example("ironcore-backup-client key paperkey --keyfile web01.key | lp"))
def print_page(
    context: typer.Context,
    keyfile: PrintedKeyfile = "",
    page_format: Annotated[PageFormat, typer.Option("--format", help="What the page is written as.")] = PageFormat.TEXT,
    output_file: Annotated[
        Path | None, typer.Option("--output-file", help="A new file for the page; without it, standard output.")
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Print a key: QR code, lines with checksums, and how to get it back. It needs the key's passphrase, once."""
    if context.invoked_subcommand is None:
        do(lambda: _print(keyfile, page_format, output_file, output), output)


@root.command("restore", epilog=example("ironcore-backup-client key paperkey restore scan.pdf --keyfile web01.key"))
def restore(
    source: SourceArgument,
    keyfile: NewKeyfile = "",
    comment: Annotated[str, typer.Option(help="What people call the key; this host's name by default.")] = "",
    no_passphrase: NoPassphrase = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a keyfile from a paper key; it gets a new passphrase. A wrong line is named by its number."""
    do(lambda: _restore(source, keyfile, comment, output, sealed=not no_passphrase), output)


@root.command("check", epilog=example("ironcore-backup-client key paperkey check scan.pdf --against web01.key"))
def check(
    source: SourceArgument,
    against: Annotated[
        Path | None, typer.Option("--against", help="The keyfile it should be of; no passphrase is needed.")
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Read a paper key and say whose it is, without writing anything: for a fresh print, and once a year."""
    do(lambda: _check(source, against, output), output)


def _print(keyfile: str, page_format: PageFormat, target: Path | None, output: Output) -> None:
    path = keywriting.path_of(keyfile)
    if target is not None and os.path.lexists(target):
        raise pages.taken(target)  # before a passphrase is asked for
    if target is None and page_format is not PageFormat.TEXT and (output is Output.JSON or sys.stdout.isatty()):
        raise UsageError(f"a page as {page_format} is nothing to look at here", hint="give --output-file FILE")
    page = pages.page_of(keywriting.opened(path), printed=format_time(datetime.now(UTC)))
    data = _rendered(page, page_format)
    facts = {"keyfile": str(path), "fingerprint": page.fingerprint, "checksum": page.checksum}
    if target is not None:
        if not pages.write(target, data):
            print_warning(f"the file system of {target} lets everybody read it")
        say(f"{target} is written: print it, check that it can be read, then delete it", output)
        facts["file"] = str(target)
    elif output is Output.TEXT:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        facts["page"] = data.decode()
    if output is Output.JSON:
        print_json(facts)
    print_warning("whoever has the page can read every backup made with the key: lock it away")


def _rendered(page: Page, page_format: PageFormat) -> bytes:
    match page_format:
        case PageFormat.TEXT:
            return text.render(page).encode()
        case PageFormat.SVG:
            return svg.render(page).encode()
        case PageFormat.PDF:
            return pdf.render(page)


def _restore(source: str, keyfile: str, comment: str, output: Output, *, sealed: bool) -> None:
    target = keywriting.path_of(keyfile)
    files.check_free(target)  # before anybody types
    content = _content(source)
    key = paperkey.decode(content)
    checksum = paperkey.checksum(content)
    say(f"Checksum     {checksum}", output)
    print_note("compare fingerprint and whole checksum with the page")
    keywriting.write_new(target, key.root, key.mode, comment, output, sealed=sealed, checksum=checksum)


def _check(source: str, against: Path | None, output: Output) -> None:
    stated = files.read(against).fingerprint if against is not None else ""
    content = _content(source)
    fingerprint = pages.fingerprint_of(content)
    if stated and stated != fingerprint:
        raise FingerprintMismatch(stated, fingerprint)
    facts = {
        "fingerprint": fingerprint,
        "checksum": paperkey.checksum(content),
        "mode": paperkey.decode(content).mode,
    }
    shown = [("Fingerprint", fingerprint), ("Whole checksum", facts["checksum"]), ("Mode", facts["mode"])]
    if against is not None:
        shown.append(("Keyfile", f"{against}: the same key"))
        facts["keyfile"] = str(against)
    print_facts(facts, shown, output)


def _content(source: str) -> bytes:
    return papertyped.read(_typed()) if source == _STDIN else _read(Path(source))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as opened:
            data = opened.read(limits_paper.PICTURE_BYTES_MAX + 1)
    except OSError as error:
        hint = "give a scan, a photo or a text file, or - to type the lines"
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint=hint) from error
    return sources.read(data)


def _typed() -> str:
    if not sys.stdin.isatty():
        return typer.get_text_stream("stdin").read(limits_paper.TYPED_BYTES_MAX + 1)
    say(f"Type the {paperkey.LINES} lines of the paper; case and spaces do not matter.")
    return ask_lines(lambda prompt: str(typer.prompt(prompt)))


def ask_lines(ask: Callable[[str], str]) -> str:
    """Ask for one line after the other, for each until its checksum holds. Raises RefusedError, at last."""
    words: list[str] = []
    for _ in range(limits_paper.TYPED_TRIES_MAX):
        number = len(words) + 1
        line = papertyped.asked(ask(f"line {number:02d}"), number)
        if not line.is_right:
            print_note(papertyped.trouble(line))
        elif (typed := paperlines.number_of(line.word)) != number:
            print_note(f"this is line {typed:02d}; line {number:02d} is asked for")
        else:
            words.append(line.word)
        if len(words) == paperkey.LINES:
            return "\n".join(words)
    raise RefusedError("the paper key was not typed", hint="scan or photograph it instead")
