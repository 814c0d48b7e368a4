"""`ironcore-backup` as a whole: every command has help with an example, listings speak JSON, completion works."""

from __future__ import annotations

import pytest

from ibs.cli.admin import root
from ibs_tests.support.clitree import Command, check_command, check_completion, commands
from ibs_tests.support.fakeapi import invoke

ALL = commands(root, "ironcore-backup")


@pytest.mark.parametrize("command", ALL, ids=str)
def test_every_command_explains_itself(command: Command) -> None:
    check_command(command, without_output={"ironcore-backup serve"})


def test_the_commands_that_the_operators_guide_prints_are_there() -> None:
    names = {str(command) for command in ALL}
    wanted = {"status", "datastore list", "datastore probe", "datastore stats", "verify start", "verify status"}
    wanted |= {"worker status", "task list", "serve"}
    assert {f"ironcore-backup {name}" for name in wanted} <= names
    assert "--services" in next(command for command in ALL if str(command).endswith(" status")).options
    verify = next(command for command in ALL if str(command).endswith("verify start"))
    assert "--notification-mode" in verify.options


def test_version() -> None:
    done = invoke(root, "--version")
    assert (done.exit_code, done.output.split()[0]) == (0, "ironcore-backup")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_completion(root, "ironcore-backup", shell, "dat", "datastore", monkeypatch)
