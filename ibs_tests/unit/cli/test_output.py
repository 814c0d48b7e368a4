"""Printing: one JSON value for programs, tables for people, errors on stderr in the fixed form, nothing obeyed."""

from __future__ import annotations

import json

import pytest
from rich.text import Text

from ibs.cli import output
from ibs.cli.output import (
    Column,
    Output,
    harmless,
    print_error,
    print_facts,
    print_note,
    print_rows,
    print_warning,
    say,
    state_text,
)
from ibs.errors import NoSpace, UsageError
from ibs.wire.system import WhoAmI

ROWS = [WhoAmI(auth_id="a@ibs"), WhoAmI(auth_id="b@ibs")]
COLUMNS = (Column("WHO", lambda row: row.auth_id), Column("N", lambda _row: "1", right=True))
# What people may call things, and what must reach the terminal as it is: markup, emoji codes, brackets.
ODD = "UPID:n:1:2:3:4:backup:x:root@ibs: [red]red[/red] [/nope] \\[x]"


@pytest.fixture(params=[False, True], ids=["piped", "terminal"])
def terminal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(output, "_tty", lambda: request.param)
    monkeypatch.setenv("COLUMNS", "300")
    return bool(request.param)


def test_rows_as_table_json_or_a_sentence(terminal: bool, capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(ROWS, COLUMNS, Output.TEXT, empty="nobody")
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["WHO", "N"],
        ["a@ibs", "1"],
        ["b@ibs", "1"],
    ]
    print_rows(ROWS, COLUMNS, Output.JSON, empty="nobody")
    assert json.loads(capsys.readouterr().out) == [{"auth_id": f"{who}@ibs", "signer": ""} for who in "ab"]
    print_rows([], COLUMNS, Output.TEXT, empty="nobody")
    assert capsys.readouterr().out == "nobody\n"
    print_rows([], COLUMNS, Output.JSON, empty="nobody")
    assert json.loads(capsys.readouterr().out) == []


def test_data_is_printed_as_it_is(terminal: bool, capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([WhoAmI(auth_id=ODD)], COLUMNS, Output.TEXT, empty="")
    assert ODD in capsys.readouterr().out
    print_facts(None, [("Name", ODD), ("State", state_text("OK") + f": {ODD}")], Output.TEXT)
    out = capsys.readouterr().out
    assert f"Name   {ODD}" in out
    assert f"OK: {ODD}" in out
    say(ODD)
    assert capsys.readouterr().out == ODD + "\n"


def test_a_piped_row_is_one_line_whatever_its_length(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "_tty", lambda: False)
    long = "x" * 3000
    print_rows([WhoAmI(auth_id=long)], COLUMNS, Output.TEXT, empty="")
    assert [len(line) for line in capsys.readouterr().out.splitlines()] == [3003, 3003]


def test_a_long_sentence_is_one_line_on_a_terminal_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "_tty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    fingerprint = ":".join(["ab"] * 32)
    output.say(f"Fingerprint  {fingerprint}")
    assert fingerprint in capsys.readouterr().out  # broken by the terminal, not by us: it gets copied


def test_very_long_tables_are_written_line_by_line_on_a_terminal_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "_tty", lambda: True)
    monkeypatch.setenv("COLUMNS", "20")
    count = output._TABLE_ROWS_MAX + 1
    print_rows([WhoAmI(auth_id="y" * 50)] * count, COLUMNS, Output.TEXT, empty="")
    assert len(capsys.readouterr().out.splitlines()) == count + 1


def test_facts_and_sentences_are_silent_in_json(terminal: bool, capsys: pytest.CaptureFixture[str]) -> None:
    print_facts(ROWS[0], [("Name", "a@ibs")], Output.TEXT)
    assert capsys.readouterr().out.split() == ["Name", "a@ibs"]
    print_facts(ROWS[0], [("Name", "a@ibs")], Output.JSON)
    say("done", Output.JSON)
    assert json.loads(capsys.readouterr().out) == {"auth_id": "a@ibs", "signer": ""}


def test_errors_have_message_and_hint(capsys: pytest.CaptureFixture[str]) -> None:
    error = NoSpace("ibs-primary", "inodes")
    print_error(error)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[0] == "error: no space: ibs-primary has no free inodes"
    assert err.splitlines()[1].startswith("hint: ")
    print_error(error, Output.JSON)
    body = json.loads(capsys.readouterr().err)
    assert body["code"] == "no-space"
    assert body["details"] == {"where": "ibs-primary", "exhausted": "inodes"}
    print_error(UsageError("odd"))
    assert capsys.readouterr().err == "error: odd\n"
    print_warning("odd")
    print_note("even")
    assert capsys.readouterr().err == "warning: odd\nnote: even\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcödé ✓", "plain ünïcödé ✓"),
        ("two\nlines", "two\nlines"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("a\rb\x9bc", "a\\x0db\\x9bc"),
        (b"caf\xe9".decode("utf-8", "surrogateescape"), "caf\\xe9"),
        ("\ud800", "\\ud800"),
        ("right\u202eleft", "right\\u202eleft"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_nothing_that_a_terminal_obeys_gets_through(
    terminal: bool, capsys: pytest.CaptureFixture[str], text: str, shown: str
) -> None:
    assert harmless(text) == shown
    say(text)
    assert capsys.readouterr().out == shown + "\n"
    print_warning(text)
    assert capsys.readouterr().err == f"warning: {shown}\n"


def test_states_carry_colour_only_where_it_means_something() -> None:
    assert state_text("offline") == Text("offline", style="red")
    assert str(state_text("offline").style) == "red"
    assert str(state_text("something").style) == ""
