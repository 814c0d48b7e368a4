"""Two real servers and one datastore: the second is refused, whoever it is, and the first notices nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibs_tests.support.programs import ServerProcess, running_server
from ibs_tests.support.storecheck import examine


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with running_server(tmp_path / "server") as running:
        running.admin("datastore", "create", "main", "--path", str(tmp_path / "store"))
        (tmp_path / "disk").write_bytes(os.urandom(5 << 20))
        backup(running, tmp_path)
        yield running


def backup(server: ServerProcess, folder: Path) -> str:
    done = server.client("main", "backup", f"disk.img:{folder / 'disk'}", "--backup-id", "web01", "-o", "json")
    return str(done.json()["snapshot"])


def test_another_server_gets_neither_the_store_nor_a_place_in_it(server: ServerProcess, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with running_server(tmp_path / "second") as second:
        for path in (store, store / "chunks", tmp_path):
            refused = second.admin("datastore", "create", "mine", "--path", str(path), check=None)
            assert refused.status in {2, 3}, path
            assert refused.err.startswith("error: ")
        for takeover in ((), ("--takeover",)):
            refused = second.admin("datastore", "adopt", str(store), "--name", "mine", *takeover, check=3)
            assert "is in use by a running server on this host" in refused.err
        assert second.admin("datastore", "list", "-o", "json").json() == []
    backup(server, tmp_path)
    assert server.stop() == 0
    found = examine(store)
    assert found.clean, found
    assert len(found.snapshots) == 2


def test_a_copy_of_the_server_itself_is_refused_as_long_as_the_first_runs(
    server: ServerProcess, tmp_path: Path
) -> None:
    # As when a machine is cloned: same identity, same record of owned stores.
    shutil.copytree(
        server.folder / "state",
        tmp_path / "clone/state",
        ignore=shutil.ignore_patterns("server.json", "lock", "*.sock"),
    )
    generation = (tmp_path / "store/.ibs/generation").read_bytes()
    with running_server(tmp_path / "clone") as clone:
        row = clone.admin("datastore", "list", "-o", "json").json()[0]
        assert row["status"] == "offline"
        assert "in use" in row["reason"]
        refused = clone.client("main", "backup", f"disk.img:{tmp_path / 'disk'}", check=6)
        assert "is offline" in refused.err
        assert clone.admin("gc", "start", "main", check=None).status == 6
        assert (tmp_path / "store/.ibs/generation").read_bytes() == generation, "nothing was written"
        last = backup(server, tmp_path)
        server.kill()
        # The first is gone for good, so its copy may go on where it ended.
        assert clone.admin("datastore", "probe", "main", "-o", "json").json()["status"] == "online"
        clone.client("main", "restore", last, "disk.img", str(tmp_path / "back"))
        assert (tmp_path / "back").read_bytes() == (tmp_path / "disk").read_bytes()
        backup(clone, tmp_path)
        assert clone.stop() == 0
    assert examine(tmp_path / "store").clean
