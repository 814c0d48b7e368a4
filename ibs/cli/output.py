"""The one place where commands print: tables for people, JSON for programs, errors on stderr.

Used by every file of `cli`. Text goes to stdout as tables with units when it is a terminal or `--output text`;
`--output json` prints exactly one JSON value. Quiet when piped: no progress, no colour.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from ibs.errors import IbsError
from ibs.wire.common import ErrorBody


class Output(StrEnum):
    """How results are printed."""

    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="text for people, json for programs.", show_default=True)
]

_STATE_STYLES = {
    "active (running)": "green",
    "activating (auto-restart)": "yellow",
    "failed": "red",
    "online": "green",
    "offline": "red",
    "read-only": "yellow",
    "OK": "green",
    "WARNING": "yellow",
    "FAILED": "red",
    "CORRUPT": "red",
    "MISSING": "red",
    "CANCELLED": "magenta",
    "running": "cyan",
    "Starting": "cyan",
    "queued": "blue",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its head, how to get the cell's text from a row, and whether it is a number."""

    head: str
    cell: Callable[[Any], str]
    right: bool = False


def stdout() -> Console:
    """A console on stdout; made afresh so that tests may redirect it. Piped tables are not cut to a width."""
    return Console(file=sys.stdout, highlight=False, soft_wrap=not sys.stdout.isatty(), width=None if _tty() else 200)


def _tty() -> bool:
    return sys.stdout.isatty()


def state_text(state: str) -> str:
    """A state in the colour that it means, as rich markup."""
    style = _STATE_STYLES.get(state)
    return f"[{style}]{state}[/{style}]" if style else state


def print_json(value: Any) -> None:
    """One JSON value, indented, on stdout."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def print_rows(rows: Iterable[Any], columns: Sequence[Column], output: Output, *, empty: str) -> None:
    """A table of `rows`, or their JSON array. `empty` is said instead of an empty table."""
    rows = list(rows)
    if output is Output.JSON:
        print_json(rows)
        return
    if not rows:
        stdout().print(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.head, justify="right" if column.right else "left", no_wrap=True, overflow="fold")
    for row in rows:
        table.add_row(*(column.cell(row) for column in columns))
    stdout().print(table)


def print_facts(value: Any, facts: Sequence[tuple[str, str]], output: Output) -> None:
    """One thing: its facts as `name  value` lines, or the whole as JSON."""
    if output is Output.JSON:
        print_json(value)
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in facts:
        table.add_row(name, text)
    stdout().print(table)


def say(text: str, output: Output = Output.TEXT) -> None:
    """A line for people; nothing with JSON output."""
    if output is Output.TEXT:
        stdout().print(text)


def print_error(error: IbsError, output: Output = Output.TEXT) -> None:
    """`error: MESSAGE` and `hint: WHAT TO DO` on stderr; the API's error object with JSON output."""
    if output is Output.JSON:
        body = ErrorBody(
            code=error.code, message=error.message, hint=error.hint, retry=str(error.retry), details=error.details
        )
        sys.stderr.write(msgspec.json.encode(body).decode() + "\n")
        return
    sys.stderr.write(f"error: {error.message}\n")
    if error.hint:
        sys.stderr.write(f"hint: {error.hint}\n")


def print_warning(text: str) -> None:
    """`warning: TEXT` on stderr."""
    sys.stderr.write(f"warning: {text}\n")
