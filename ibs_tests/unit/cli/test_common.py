"""Running commands: errors of ours become lines and exit statuses, also out of groups; nothing else is hidden."""

from __future__ import annotations

import os
import signal

import pytest
import trio
import typer

from ibs.cli.common import ask_secret, example, first_error, run
from ibs.errors import BusyError, ChunkNotFound, NotAuthorised


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
