"""A stolen credential of a backup client: with it every route is tried, and nothing that was there before is less."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from blake3 import blake3

from ibs.control.routes import ALL
from ibs.control.routing import OCTETS, Route
from ibs_tests.support.control import sample
from ibs_tests.support.programs import ServerProcess, running_server
from ibs_tests.support.treecmp import tree_differences
from ibs_tests.support.trees import many_files

# Readable by anyone who is known, or about oneself; none of them changes anything.
HARMLESS = {
    "ping",
    "whoami",
    "datastore_list",
    "remote_list",
    "gc_status",
    "schedule_list",
    "task_list",
    "access_explain",
    "logout",
}
# What a client of backups is there for, on its own groups only.
OWN = {"group_list", "snapshot_list", "snapshot_show", "snapshot_change", "session_open", "reader_open"}
OWN |= {"namespace_list", "bin_list"}


@dataclass(frozen=True)
class World:
    server: ServerProcess
    store: Path
    tree: Path
    thief: str
    victim: str
    own: str

    def http(self) -> httpx.Client:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        headers = {"Authorization": f"Bearer {self.thief}"}
        return httpx.Client(base_url=f"{self.server.url}/api/v1", headers=headers, verify=context, timeout=60)

    def contents(self) -> dict[str, str]:
        """What the datastore holds of snapshots and chunks, file by file."""
        files = (*(self.store / "ns").rglob("*"), *(self.store / "chunks").rglob("*"))
        return {
            str(file.relative_to(self.store)): blake3(file.read_bytes()).hexdigest()
            for file in files
            if file.is_file() and file.name != "state.json"
        }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("thief")
    many_files(folder / "tree", seed=3, count=20)
    with running_server(folder) as server:
        server.admin("datastore", "create", "main", "--path", str(folder / "store"))
        credentials = [server.make_token(name, ("/datastore/main", "Datastore.Backup")) for name in ("thief", "victim")]
        made = []
        for credential, group in zip(credentials, ("own", "victim"), strict=True):
            command = ("backup", f"t.tree:{folder / 'tree'}", "--backup-id", group, "--output", "json")
            made.append(server.client("main", *command, credential=credential).json()["snapshot"])
        yield World(server, folder / "store", folder / "tree", credentials[0], made[1], made[0])


def request(http: httpx.Client, route: Route, snapshot: str) -> httpx.Response:
    """A request that is right in form and means that snapshot, its group, or everything."""
    group = snapshot.rpartition("/")[0]
    facts: dict[str, Any] = {"snapshot": snapshot, "entry": snapshot, "group": group, "store": "main"}
    facts |= {"namespace": "", "owner": "thief@ibs!t", "auth_id": "victim@ibs!t", "recursive": True, "protected": False}
    facts |= {"path": "/datastore/main", "role": "Datastore.Admin", "archives": ["t.tree"], "reclaim": "now"}
    content = None
    if route.body == OCTETS:
        content = bytes(32)
    elif route.body is not None:
        known = {one.name for one in msgspec.structs.fields(route.body)}
        content = msgspec.json.encode(sample(route.body, **{name: facts[name] for name in facts if name in known}))
    names = {"store": "main", "auth_id": "victim@ibs!t", "role": "api", "name": "x", "fingerprint": "ab"}
    path = route.path
    for name in ("sid", "rid", "archive", "chunk", "upid", "n"):
        path = path.replace(f"{{{name}}}", "1")
    params = {
        one.name: {"name": snapshot, "group": group}[one.name] for one in route.query if one.name in {"name", "group"}
    }
    return http.request(route.method, path.format(**names), content=content, params=params)


def test_every_route_is_tried_and_nothing_is_less(world: World, tmp_path: Path) -> None:
    before = world.contents()
    assert len(before) >= 10
    through = []
    for snapshot in (world.victim, world.own):
        for route in ALL:
            with world.http() as http:  # each its own: some refusals end the connection
                answer = request(http, route, snapshot)
                assert answer.status_code != 500, (route.operation, answer.text)
                if answer.is_success and route.operation not in HARMLESS:
                    through.append((route.operation, snapshot))
    after = world.contents()
    assert {name: after.get(name) for name in before} == before
    assert {operation for operation, _ in through} <= OWN
    theirs = {operation for operation, snapshot in through if snapshot == world.victim}
    assert theirs <= {"group_list", "snapshot_list", "namespace_list", "bin_list"}, "lists, of what is one's own"
    for credential, snapshot in ((world.server.token, world.victim), (world.thief, world.own)):
        target = tmp_path / snapshot.split("/")[1]
        world.server.client("main", "restore", snapshot, "t.tree", str(target), credential=credential)
        assert tree_differences(str(world.tree), str(target)) == []


def test_neither_names_nor_chunks_of_others_are_told(world: World) -> None:
    with world.http() as http:
        for path in ("groups", "snapshots", "bin"):
            assert "victim" not in http.get(f"/datastores/main/{path}").text
        assert {task["auth_id"] for task in http.get("/tasks").json()} == {"thief@ibs!t"}
        assert "victim" not in http.get("/access/explain").text
        opened = http.post("/datastores/main/readers", json={"snapshot": world.victim})
        assert opened.status_code in {403, 404}, opened.text
        stranger = "ab" * 32
        mine = http.post("/datastores/main/readers", json={"snapshot": world.own}).json()["reader_id"]
        answer = http.post(f"/readers/{mine}/chunks", content=bytes.fromhex(stranger))
        assert answer.status_code == 403 or b"not" in answer.content
        http.post(f"/readers/{mine}/close", json={})


def test_what_it_adds_takes_no_place_of_others(world: World, tmp_path: Path) -> None:
    """Its own groups grow; the group of another is closed to it, under whatever name it asks."""
    before = world.contents()
    command = ("backup", f"t.tree:{world.tree}", "--backup-id", "victim")
    refused = world.server.client("main", *command, credential=world.thief, check=None)
    assert refused.status == 3
    assert "not authorised: thief@ibs!t does not own group host/victim" in refused.err
    again = ("backup", f"t.tree:{world.tree}", "--backup-id", "another")
    world.server.client("main", *again, credential=world.thief)
    after = world.contents()
    assert {name: after.get(name) for name in before} == before
    assert len(after) > len(before)
