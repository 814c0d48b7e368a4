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
from rich.text import Text

from ibs.errors import IbsError
from ibs.wire.common import body_of


class Output(StrEnum):
    """How results are printed."""

    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="text for people, json for programs.", show_default=True)
]

_TABLE_ROWS_MAX = 500
"""More rows than a person reads are written without the terminal's care for narrow windows, and at once."""

_STATE_STYLES = {
    "active (running)": "green",
    "activating (auto-restart)": "yellow",
    "failed": "red",
    "online": "green",
    "offline": "red",
    "read-only": "yellow",
    "quarantined": "magenta",
    "OK": "green",
    "WARNING": "yellow",
    "FAILED": "red",
    "CORRUPT": "red",
    "MISSING": "red",
    "STALE": "yellow",
    "CANCELLED": "magenta",
    "running": "cyan",
    "Starting": "cyan",
    "queued": "blue",
    "silent": "red",
    "never joined": "yellow",
    "connected": "green",
    "trying": "yellow",
    "not running": "red",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its head, how to get the cell's text from a row, and whether it is a number."""

    head: str
    cell: Callable[[Any], str | Text]
    right: bool = False


def stdout() -> Console:
    """A console on stdout; made afresh so that tests may redirect it. What it prints is data: no markup, no emoji."""
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=not _tty())


def _tty() -> bool:
    return sys.stdout.isatty()


def state_text(state: str) -> Text:
    """A state in the colour that it means."""
    return Text(harmless(state), style=_STATE_STYLES.get(state, ""))


def harmless(text: str) -> str:
    """Text from elsewhere (names of files, messages) without anything that a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else _escaped(ord(c)) for c in text)


def _escaped(number: int) -> str:
    if 0xDC80 <= number <= 0xDCFF:  # a byte of a name that is no UTF-8
        number -= 0xDC00
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


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
        say(empty)
        return
    cells = [[_text(column.cell(row)) for column in columns] for row in rows]
    if _tty() and len(rows) <= _TABLE_ROWS_MAX:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column.head, justify="right" if column.right else "left", no_wrap=True, overflow="fold")
        for line in cells:
            table.add_row(*line)
        stdout().print(table)
    else:
        _write_lines(cells, columns)


def _text(cell: str | Text) -> Text:
    return cell if isinstance(cell, Text) else Text(harmless(cell))


def _write_lines(cells: Sequence[Sequence[Text]], columns: Sequence[Column]) -> None:
    """Aligned, one line a row whatever its length, so that programs can search it; fast for any number of rows."""
    lines = [[column.head for column in columns], *([cell.plain for cell in line] for line in cells)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = (
            text.rjust(width) if column.right else text.ljust(width)
            for text, width, column in zip(line, widths, columns, strict=True)
        )
        sys.stdout.write("  ".join(padded).rstrip() + "\n")


def print_facts(value: Any, facts: Sequence[tuple[str, str | Text]], output: Output) -> None:
    """One thing: its facts as `name  value` lines, or the whole as JSON."""
    if output is Output.JSON:
        print_json(value)
        return
    width = max((len(name) for name, _fact in facts), default=0)
    for name, fact in facts:
        say(Text.assemble((harmless(name).ljust(width), "bold"), "  ", _text(fact)))


def say(text: str | Text, output: Output = Output.TEXT) -> None:
    """A line for people; nothing with JSON output. What a plain string holds is data and printed as it is."""
    if output is not Output.TEXT:
        return
    if _tty():
        # The terminal breaks a line that is too long, and gives it back whole: fingerprints and commands get copied.
        stdout().print(_text(text), soft_wrap=True)
    else:
        sys.stdout.write(_text(text).plain + "\n")


def print_done(text: str, output: Output, **facts: str | bool) -> None:
    """What was done, when there is nothing to show: a sentence, or `facts` as one JSON object."""
    if output is Output.JSON:
        print_json(facts)
    say(text, output)


def print_error(error: IbsError, output: Output = Output.TEXT) -> None:
    """`error: MESSAGE` and `hint: WHAT TO DO` on stderr; the API's error object with JSON output."""
    if output is Output.JSON:
        sys.stderr.write(msgspec.json.encode(body_of(error)).decode() + "\n")
        return
    sys.stderr.write(f"error: {harmless(error.message)}\n")
    if error.hint:
        sys.stderr.write(f"hint: {harmless(error.hint)}\n")


def print_warning(text: str) -> None:
    """`warning: TEXT` on stderr."""
    sys.stderr.write(f"warning: {harmless(text)}\n")


def print_note(text: str) -> None:
    """`note: TEXT` on stderr."""
    sys.stderr.write(f"note: {harmless(text)}\n")
