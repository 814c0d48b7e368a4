"""Running commands: errors of ours become lines and exit statuses, also out of groups; nothing else is hidden."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
import typer

from ibs.cli import common
from ibs.cli.common import app, ask_secret, example, fail, first_error, main_of, run
from ibs.cli.output import Output, OutputOption
from ibs.errors import BusyError, ChunkNotFound, NotAuthorised
from ibs_tests.support.fakeapi import FakeApi


def test_run_returns_the_result() -> None:
    async def work() -> int:
        await trio.sleep(0)
        return 7

    assert run(work) == 7


def test_an_error_becomes_its_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    async def work() -> None:
        raise NotAuthorised("a@ibs", "Datastore.Reader", "/datastore/x")

    with pytest.raises(typer.Exit) as ended:
        run(work)
    assert ended.value.exit_code == 3
    assert "a@ibs lacks role Datastore.Reader on /datastore/x" in capsys.readouterr().err


def test_an_error_inside_groups_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    async def work() -> None:
        raise ExceptionGroup("outer", [ExceptionGroup("inner", [BusyError("full")])])

    with pytest.raises(typer.Exit) as ended:
        run(work)
    assert ended.value.exit_code == 6
    assert capsys.readouterr().err.startswith("error: full")
    assert first_error(ExceptionGroup("x", [ValueError()])) is None
    assert isinstance(first_error(ExceptionGroup("x", [ValueError(), ChunkNotFound("ab")])), ChunkNotFound)


def test_a_defect_inside_groups_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    program = app("program", "text")

    @program.command()
    def broken() -> None:
        raise ExceptionGroup("outer", [ExceptionGroup("inner", [ZeroDivisionError("by what")])])

    monkeypatch.setattr(sys, "argv", ["program"])
    monkeypatch.delenv("IBS_DEBUG", raising=False)
    with pytest.raises(SystemExit):
        main_of(program)()
    assert "internal error: ZeroDivisionError: by what" in capsys.readouterr().err


def test_a_defect_is_not_hidden() -> None:
    async def work() -> None:
        raise ZeroDivisionError

    with pytest.raises((ZeroDivisionError, ExceptionGroup)):
        run(work)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_cancels_and_exits_130(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    cleaned = []

    async def work() -> None:
        os.kill(os.getpid(), number)
        try:
            await trio.sleep_forever()
        finally:
            cleaned.append(True)

    with pytest.raises(typer.Exit) as ended:
        run(work)
    assert ended.value.exit_code == 130
    assert cleaned == [True]
    assert "cancelled" in capsys.readouterr().err


def test_no_prompt_without_a_terminal() -> None:
    assert ask_secret("Secret: ") == ""
    assert "ironcore-backup status" in example("ironcore-backup status")


def test_a_signal_at_the_very_start_is_heard(capsys: pytest.CaptureFixture[str]) -> None:
    started = []

    async def work() -> None:
        started.append(True)
        os.kill(os.getpid(), signal.SIGTERM)
        await trio.sleep_forever()

    with pytest.raises(typer.Exit) as ended:
        run(work)
    assert (ended.value.exit_code, started) == (130, [True])
    assert "hint: " in capsys.readouterr().err


class Program:
    """A small program, run the way its entry point runs it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = app("prog", "Help.")
        self._monkeypatch, self._capsys = monkeypatch, capsys

        @self.root.command("work")
        def work(what: str, output: OutputOption = Output.TEXT) -> None:
            if what == "defect":
                raise ZeroDivisionError
            if what == "ours":
                fail(BusyError("full"), output)
            if what == "pipe":
                raise BrokenPipeError
            if what == "abort":
                raise typer.Abort
            if what == "four":
                raise typer.Exit(4)

        @self.root.command("other")
        def other() -> None:
            """So that `work` is a subcommand."""

    def __call__(self, *arguments: str) -> tuple[int, str]:
        """Exit status and what was said on stderr; `out` is what was said on stdout."""
        self._monkeypatch.setattr(sys, "argv", ["prog", *arguments])
        with pytest.raises(SystemExit) as ended:
            main_of(self.root)()
        self.out, said = self._capsys.readouterr()
        return int(ended.value.code or 0), said


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Program:
    return Program(monkeypatch, capsys)


def test_exit_statuses_pass_through(program: Program) -> None:
    assert program("work", "fine") == (0, "")
    assert program("work", "four") == (4, "")
    assert program("work", "ours") == (6, "error: full\n")
    assert program("work", "abort") == (130, "error: cancelled\n")


def test_usage_errors_are_two_lines_and_end_with_2(program: Program) -> None:
    status, said = program("work", "--nope")
    assert status == 2
    assert said.splitlines()[0] == "error: No such option: --nope"
    assert said.splitlines()[1] == "hint: see: prog work --help"
    assert program("nothing")[0] == 2
    status, said = program("work", "x", "--output", "yaml")
    assert (status, said.startswith("error: Invalid value for '--output'")) == (2, True)


@pytest.mark.parametrize("form", [("--output", "json"), ("--output=json",), ("-o", "json")])
def test_usage_errors_are_json_where_json_is_asked_for(program: Program, form: tuple[str, ...]) -> None:
    status, said = program("work", *form)
    assert status == 2
    assert json.loads(said)["code"] == "usage"


def test_no_arguments_show_the_help(program: Program) -> None:
    assert program() == (2, "")
    assert "work" in program.out


def test_a_defect_is_one_sentence_unless_debugging(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    status, said = program("work", "defect")
    assert status == 1
    assert said.startswith("error: internal error: ZeroDivisionError\nhint: ")
    assert "Traceback" not in said
    monkeypatch.setenv("IBS_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["prog", "work", "defect"])
    with pytest.raises(ZeroDivisionError):
        main_of(program.root)()


def test_a_broken_pipe_ends_quietly(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "dup2", lambda *_fds: 0)
    monkeypatch.setattr(sys.stdout, "fileno", lambda: 1, raising=False)
    assert program("work", "pipe") == (1, "")


@pytest.mark.parametrize(
    ("named", "folder", "environment", "wanted"),
    [
        ("h:1", None, {}, ("h:1", None)),
        ("h:1", Path("/a"), {"IBS_STATE_DIR": "/a"}, ("h:1", None)),
        ("h:1", Path("/a"), {}, ("h:1", Path("/a"))),
        (None, Path("/a"), {"IBS_STATE_DIR": "/a"}, (None, Path("/a"))),
    ],
)
async def test_a_server_named_on_purpose_wins_over_the_environment(
    monkeypatch: pytest.MonkeyPatch,
    named: str | None,
    folder: Path | None,
    environment: dict[str, str],
    wanted: tuple[str | None, Path | None],
) -> None:
    seen: list[Any] = []

    def resolve(server: str | None, state_dir: Path | None, *_rest: Any) -> Any:
        seen.append((server, state_dir))

    monkeypatch.delenv("IBS_STATE_DIR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(common, "resolve_server", resolve)
    monkeypatch.setattr(common, "connect", lambda _credentials: FakeApi())
    async with common.administrator(named, folder):
        pass
    assert seen == [wanted]
