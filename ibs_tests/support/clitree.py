"""Walks the command tree of a program, and what must hold of every command in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from ibs_tests.support.fakeapi import invoke


@dataclass(frozen=True)
class Command:
    """One command: its words, and what typer knows of it."""

    root: typer.Typer
    words: tuple[str, ...]
    known: Any

    def __str__(self) -> str:
        return " ".join(self.words)

    @property
    def options(self) -> set[str]:
        return {name for parameter in self.known.params for name in parameter.opts}


def commands(root: typer.Typer, program: str) -> list[Command]:
    """Every command; of groups only those that do something by themselves."""

    def walk(words: tuple[str, ...], known: Any) -> Iterator[Command]:
        below = getattr(known, "commands", None)
        if below is None:
            yield Command(root, words, known)
            return
        if words[1:] and known.invoke_without_command:
            yield Command(root, words, known)
        for name, inner in below.items():
            yield from walk((*words, name), inner)

    return list(walk((program,), typer.main.get_command(root)))


def check_command(command: Command, *, without_output: set[str]) -> None:
    """A sentence of help, a word on each option, an example that begins with the command itself, JSON output."""
    assert command.known.help, f"{command} has no help"
    assert f"{command}" in (command.known.epilog or ""), f"{command} has no example of itself"
    for parameter in command.known.params:
        assert getattr(parameter, "help", None), f"{command}: {parameter.name} has no help"
    if str(command) not in without_output:
        assert {"--output", "-o"} <= command.options, f"{command} has no --output"
    for flag in ("--help", "-h"):
        shown = invoke(command.root, *command.words[1:], flag)
        assert shown.exit_code == 0
        assert "Example:" in shown.output


def check_completion(
    root: typer.Typer, program: str, shell: str, begun: str, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shell's script is printed, and asking as that script does completes a command."""
    monkeypatch.setenv("SHELL", f"/bin/{shell}")
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    runner = CliRunner()
    script = runner.invoke(root, ["--show-completion", shell], prog_name=program)
    variable = f"_{program}_COMPLETE".replace("-", "_").upper()
    assert script.exit_code == 0
    assert variable in script.output
    asking = {variable: f"complete_{shell}", "COMP_WORDS": f"{program} {begun}", "COMP_CWORD": "1"}
    asking |= {"_TYPER_COMPLETE_ARGS": f"{program} {begun}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = runner.invoke(root, [], env=asking, prog_name=program)
    assert wanted in done.output
