"""The units' form of the command loads next to nothing; every other form is the command line's."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibs.cli import admin, client, mirror, start
from ibs.services.context import ROLES

UNITS = Path(__file__).parents[3] / "contrib" / "systemd"


@pytest.fixture(autouse=True)
def collected_as_usual() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*before)


@pytest.mark.parametrize(
    ("arguments", "light"),
    [
        (["service", "watch", "gc", "--state-dir", "/x"], True),
        (["service", "watch", "nobody", "--state-dir", "/x"], False),
        (["service", "watch", "gc"], False),
        (["service", "watch", "--help"], False),
        (["status"], False),
        ([], False),
    ],
)
def test_who_gets_the_arguments(arguments: list[str], light: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[object] = []
    monkeypatch.setattr(sys, "argv", ["ironcore-backup", *arguments])
    monkeypatch.setattr(mirror, "main", called.append)
    monkeypatch.setattr(admin, "main", lambda: called.append("admin"))
    start.main()
    assert called == [["gc", "/x"] if light else "admin"]


def test_the_clients_program(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    monkeypatch.setattr(client, "main", lambda: called.append("client"))
    start.client()
    assert gc.get_threshold()[0] > 10_000, "what is imported stays: nothing to collect meanwhile"
    assert called == ["client"]


def test_the_roles_are_the_servers() -> None:
    assert start.ROLES == ROLES


def test_every_units_command_takes_the_light_way() -> None:
    for role in ROLES:
        (command,) = [
            line.partition("=")[2].split()
            for line in (UNITS / f"ironcore-backup-{role}.service").read_text().splitlines()
            if line.startswith("ExecStart=")
        ]
        assert command == [
            "/usr/bin/ironcore-backup",
            "service",
            "watch",
            role,
            "--state-dir",
            "/var/lib/ironcore-backup",
        ]


def test_the_light_way_is_light(tmp_path: Path) -> None:
    code = (
        "import sys; from ibs.cli import mirror, start; mirror.main = lambda arguments: None; "
        f"sys.argv = ['x', 'service', 'watch', 'gc', '--state-dir', {str(tmp_path)!r}]; start.main(); "
        "print(sorted({'trio', 'typer', 'rich', 'msgspec', 'httpx', 'ssl', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
