"""Hooks are programs of the host: what they print is told, what fails is told, and none runs for ever."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from ibs.client.agent.hooks import run_hook
from ibs.core import limits
from ibs.errors import FailedError


def hook(folder: Path, text: str) -> Path:
    path = folder / "dump"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


async def test_its_words_and_its_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IBS_SECRET", "hidden")
    path = hook(tmp_path, 'echo "of $IBS_GROUP"; echo; echo more >&2; echo "secret: $IBS_SECRET"')
    lines = await run_hook(path, {"IBS_GROUP": "host/web01"})
    assert [line.text for line in lines] == ["dump: of host/web01", "dump: more", "dump: secret: "]


async def test_a_failure_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(FailedError, match="hook dump failed with status 3: no database"):
        await run_hook(hook(tmp_path, "echo trying; echo no database; exit 3"), {})
    with pytest.raises(FailedError, match="hook dump cannot be run"):
        await run_hook(tmp_path / "missing" / "dump", {})


async def test_much_output_is_bounded(tmp_path: Path) -> None:
    lines = await run_hook(hook(tmp_path, "seq 1 5000"), {})
    assert len(lines) == limits.HOOK_OUTPUT_LINES_MAX
    assert lines[-1].text == "dump: 5000"


async def test_it_does_not_run_for_ever(tmp_path: Path) -> None:
    with pytest.raises(FailedError, match=r"took longer than 0\.3 seconds: begun"):
        await run_hook(hook(tmp_path, "echo begun; exec sleep 600"), {}, seconds_max=0.3)


async def test_cancellation_ends_it(tmp_path: Path) -> None:
    path = hook(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 600")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_hook, path, {})
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()
