"""`ironcore-backup-client` as a whole: every command has help with an example and JSON, completion works."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from ibs.cli import client
from ibs.cli.client import root
from ibs_tests.support.clitree import Command, check_command, check_completion, commands
from ibs_tests.support.fakeapi import invoke

ALL = commands(root, "ironcore-backup-client")


@pytest.mark.parametrize("command", ALL, ids=str)
def test_every_command_explains_itself(command: Command) -> None:
    check_command(command, without_output={"ironcore-backup-client agent run"})


def test_the_commands_of_the_contract_are_there() -> None:
    names = {str(command) for command in ALL}
    wanted = {"backup", "restore", "diff", "snapshot list", "snapshot show", "snapshot files", "login", "logout"}
    assert {f"ironcore-backup-client {name}" for name in wanted} <= names
    for name, options in {
        "backup": {"--backup-type", "--backup-id", "--ns", "--exclude", "--dry-run", "--repository"},
        "restore": {"--pattern", "--overwrite"},
        "diff": {"--path"},
    }.items():
        command = next(command for command in ALL if str(command) == f"ironcore-backup-client {name}")
        assert options <= command.options


def test_no_secret_is_a_command_line_argument() -> None:
    for command in ALL:
        assert not {
            option
            for option in command.options
            if ("secret" in option or "passphrase" in option) and option != "--no-passphrase"
        }


def test_version() -> None:
    done = invoke(root, "--version")
    assert (done.exit_code, done.output.split()[0]) == (0, "ironcore-backup-client")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_completion(root, "ironcore-backup-client", shell, "sna", "snapshot", monkeypatch)


def test_the_collector_leaves_a_short_run_alone() -> None:
    assert gc.get_threshold()[0] >= 50_000
    assert gc.isenabled()


@pytest.mark.parametrize(("arguments", "loaded"), [(["snapshot", "list"], False), (["backup"], True), ([], True)])
def test_only_the_command_that_is_asked_for_is_loaded(arguments: list[str], *, loaded: bool) -> None:
    code = f"import sys; from ibs.cli import client; client.build({arguments})"
    code += "; print('ibs.client.backup.run' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(loaded)


def test_a_command_that_does_not_exist_is_told_with_all_that_do() -> None:
    done = invoke(client.build(["bakcup"]), "bakcup")
    assert done.exit_code != 0
    assert "backup" in done.output + str(done.exception)
