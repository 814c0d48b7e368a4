"""Printing: one JSON value for programs, tables for people, errors on stderr in the fixed form."""

from __future__ import annotations

import json

import pytest

from ibs.cli.output import Column, Output, print_error, print_facts, print_rows, print_warning, say, state_text
from ibs.errors import NoSpace
from ibs.wire.system import WhoAmI

ROWS = [WhoAmI(auth_id="a@ibs"), WhoAmI(auth_id="b@ibs")]
COLUMNS = (Column("WHO", lambda row: row.auth_id),)


def test_rows_as_table_json_or_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(ROWS, COLUMNS, Output.TEXT, empty="nobody")
    assert capsys.readouterr().out.split() == ["WHO", "a@ibs", "b@ibs"]
    print_rows(ROWS, COLUMNS, Output.JSON, empty="nobody")
    assert json.loads(capsys.readouterr().out) == [{"auth_id": "a@ibs"}, {"auth_id": "b@ibs"}]
    print_rows([], COLUMNS, Output.TEXT, empty="nobody")
    assert capsys.readouterr().out == "nobody\n"
    print_rows([], COLUMNS, Output.JSON, empty="nobody")
    assert json.loads(capsys.readouterr().out) == []


def test_facts_and_sentences_are_silent_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_facts(ROWS[0], [("Name", "a@ibs")], Output.TEXT)
    assert capsys.readouterr().out.split() == ["Name", "a@ibs"]
    print_facts(ROWS[0], [("Name", "a@ibs")], Output.JSON)
    say("done", Output.JSON)
    assert json.loads(capsys.readouterr().out) == {"auth_id": "a@ibs"}


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
    print_warning("odd")
    assert capsys.readouterr().err == "warning: odd\n"


def test_states_carry_colour_only_where_it_means_something() -> None:
    assert state_text("offline") == "[red]offline[/red]"
    assert state_text("something") == "something"
