"""Entries as rows: every kind, names of any bytes, times beyond the calendar."""

from __future__ import annotations

import base64
import json

import msgspec
import pytest

from ibs.cli.client.entries import ENTRY_COLUMNS, entry_row, moment, path_facts
from ibs.cli.output import Output, print_rows
from ibs.core.tree import Entry, Kind


def test_a_name_that_is_no_text_keeps_its_bytes() -> None:
    assert path_facts(b"etc/fstab") == {"path": "etc/fstab"}
    odd = b"caf\xe9\n"
    facts = path_facts(odd)
    assert base64.b64decode(facts["path_base64"]) == odd
    assert facts["path"].isprintable()


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_764_000_000_123_456_789, "2025-11-24T16:00:00Z"),
        (-1, "1969-12-31T23:59:59Z"),
        ((1 << 62), "2116-02-20T23:53:38Z"),
        (10**30, str(10**30)),
    ],
)
def test_moments(time_ns: int, text: str) -> None:
    assert moment(time_ns) == text


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.CONTINUATION])
def test_every_kind_is_a_json_object_and_a_line(kind: Kind, capsys: pytest.CaptureFixture[str]) -> None:
    entry = Entry(path=b"a/[b] \x1b[2J", kind=kind, mode=0o4755, uid=1, gid=2, size=2048, link=b"to\xff", mtime_ns=5)
    row = entry_row(entry)
    assert json.loads(msgspec.json.encode(row))["kind"] == kind.name.lower()
    assert ("link" in row) == (kind in (Kind.SYMLINK, Kind.HARDLINK))
    print_rows([row], ENTRY_COLUMNS, Output.TEXT, empty="")
    shown = capsys.readouterr().out.splitlines()[1]
    assert shown.startswith(
        {Kind.DIR: "d", Kind.SYMLINK: "l", Kind.CHAR: "c", Kind.BLOCK: "b", Kind.FIFO: "p", Kind.SOCKET: "s"}.get(
            kind, "-"
        )
        + "rwsr-xr-x"
    )
    assert "1:2" in shown
    assert "a/[b] \\x1b[2J" in shown
    assert ("2.0 KiB" in shown) == (kind in (Kind.FILE, Kind.HARDLINK))
