"""The state as a whole: made once, held by one server, kept over restarts."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from ibs.catalog.catalog import open_catalog
from ibs.errors import BusyError, ConflictError, FailedError


async def test_identity_is_drawn_once(tmp_path: Path) -> None:
    state = tmp_path / "a" / "state"
    async with open_catalog(state) as catalog:
        first = catalog.server_uuid
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in state.iterdir()}
        assert modes == dict.fromkeys(("lock", "state.db", "state.db-shm", "state.db-wal"), 0o600)
    async with open_catalog(state) as catalog:
        assert catalog.server_uuid == first
    async with open_catalog(tmp_path / "b") as catalog:
        assert catalog.server_uuid != first


async def test_inline_variant_works_without_threads(tmp_path: Path) -> None:
    async with open_catalog(tmp_path / "state", inline=True) as catalog:
        await catalog.settings.set("a", "b")
        assert await catalog.settings.get("a") == "b"


async def test_a_second_server_is_refused(tmp_path: Path) -> None:
    async with open_catalog(tmp_path / "state"):
        with pytest.raises(BusyError, match=r"in use by another server \(pid \d+\)"):
            async with open_catalog(tmp_path / "state"):
                pass
    async with open_catalog(tmp_path / "state"):
        pass


HOLD = """
import sys, pathlib, trio
from ibs.catalog.catalog import open_catalog
async def main():
    async with open_catalog(pathlib.Path(sys.argv[1])) as catalog:
        await catalog.settings.set("who", "child")
        print("ready", flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


async def test_two_processes_and_a_kill(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(state)], stdout=subprocess.PIPE) as child:
        assert await trio_read_line(child) == b"ready\n"
        with pytest.raises(BusyError, match=f"pid {child.pid}"):
            async with open_catalog(state):
                pass
        child.kill()
        child.wait()
        async with open_catalog(state) as catalog:
            assert await catalog.settings.get("who") == "child"


async def trio_read_line(child: subprocess.Popen[bytes]) -> bytes:
    assert child.stdout is not None
    with trio.fail_after(30):
        return await trio.to_thread.run_sync(child.stdout.readline)


async def test_a_newer_state_is_refused(tmp_path: Path) -> None:
    async with open_catalog(tmp_path / "state") as catalog:
        await catalog.database.write(lambda c: c.execute("PRAGMA user_version = 99") and None)
    with pytest.raises(ConflictError, match="newer program"):
        async with open_catalog(tmp_path / "state"):
            pass


async def test_a_state_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FailedError, match="cannot use the state folder"):
        async with open_catalog(tmp_path / "file" / "state"):
            pass
