"""A real server and real agents: joining, backups on other hosts, and everything that can go wrong between them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ibs_tests.support.agents import HostProcess, LineProcess, invited, joined, line_to, shown, task_of, until
from ibs_tests.support.programs import ServerProcess, running_server, start_server

GRACE = 6
RATE = 1.2e6
BIG_BYTES = 8 << 20


@dataclass
class World:
    """A server with a datastore, and the host web01 behind a slow line, with its agent running."""

    server: ServerProcess
    host: HostProcess
    line: LineProcess
    folder: Path

    def order(self, path: str, host: str = "web01", *options: str) -> str:
        """Start a backup on the host; its UPID."""
        source = self.folder / "data" / path
        command = ("backup", "run", "--store", "main", "--host", host, "--path", f"x.tree:{source}", *options)
        return self.server.admin(*command, "--detach").out.strip()

    def big(self, name: str) -> str:
        """A folder that takes some seconds on the line; nobody has seen its content before."""
        folder = self.folder / "data" / name
        folder.mkdir()
        for number in range(10):
            (folder / f"f{number}").write_bytes(os.urandom(BIG_BYTES // 10))
        return name

    def under_way(self, upid: str) -> None:
        """Wait until some of it has gone over the line."""
        until(lambda: task_of(self.server, upid)["done_bytes"] > 0)

    def ended(self, upid: str) -> dict[str, Any]:
        found: dict[str, Any] = until(lambda: (view := task_of(self.server, upid))["ended"] and view)
        return found

    def log(self, upid: str) -> str:
        return self.server.admin("task", "log", upid).out

    def connected(self) -> None:
        until(lambda: shown(self.server, "web01")["state"] == "online")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("agents")
    small = folder / "data" / "small"
    small.mkdir(parents=True)
    (small / "a").write_bytes(b"hello")
    (folder / "store").mkdir()
    with running_server(folder / "server", config=f"agent_grace_seconds = {GRACE}\n") as server:
        server.admin("datastore", "create", "main", "--path", str(folder / "store"))
        with line_to(server, folder, bytes_per_second=RATE) as line:
            host = joined(server, "web01", folder / "web01", line.address)
            host.config.write_text(f'paths = ["{folder}/data"]\n')
            host.config.chmod(0o600)
            host.start()
            made = World(server, host, line, folder)
            made.connected()
            try:
                yield made
            finally:
                host.kill()
                made.server.process.poll() is None and made.server.stop()


def test_a_join_token_is_for_one_host_and_one_use(world: World) -> None:
    host, token = invited(world.server, "db01", world.folder / "db01", "--tag", "db", "--project", "shop")
    assert shown(world.server, "db01")["state"] == "never joined"
    place = world.server.facts["address"]

    def join(name: str, token: str) -> Any:
        return host.client("agent", "join", place, "--name", name, check=None, IBS_JOIN_TOKEN=token)

    for name, wrong in (("db01", "wrong"), ("web01", token), ("db02", token)):
        refused = join(name, wrong)
        assert refused.status == 3
        assert f"error: the join token is not valid for host {name}" in refused.err
    assert host.client("agent", "status", check=5).err.startswith("error: this host has not joined a server")
    assert join("db01", token).status == 0
    again = host.client("agent", "join", place, "--name", "db01", "--again", check=3, IBS_JOIN_TOKEN=token)
    assert "was used already" in again.err
    view = shown(world.server, "db01")
    assert (view["state"], view["tags"], view["project"]) == ("silent", ["db"], "shop")
    identity = host.folder / "agent" / "agent.json"
    assert identity.stat().st_mode & 0o777 == 0o600
    # The identity has no rights of its own.
    secret = json.loads(identity.read_text())
    refused = world.server.client(
        "main", "snapshot", "list", check=None, credential=f"{secret['auth_id']}:{secret['secret']}"
    )
    assert refused.status == 3
    assert "lacks role" in refused.err
    world.server.admin("host", "update", "db01", "--tag", "sql")
    world.server.admin("host", "remove", "db01")
    gone = host.client("agent", "run", "--allow-all", check=3)
    assert "error: the credential is not valid" in gone.err
    [row] = world.server.admin("audit", "list", "--action", "host_update", "--output", "json").json()
    assert (row["before"]["tags"], row["after"]["tags"]) == (["db"], ["sql"])
    exported = world.server.admin("audit", "export").out
    assert "agent_join" in exported
    assert token not in exported
    assert secret["secret"] not in exported


def test_a_wrong_certificate_gets_no_token(world: World) -> None:
    host, token = invited(world.server, "far01", world.folder / "far01")
    place, pin = world.server.facts["address"], ":".join(["ab"] * 32)
    refused = host.client(
        "agent", "join", place, "--name", "far01", "--fingerprint", pin, check=3, IBS_JOIN_TOKEN=token
    )
    assert "TLS fingerprint mismatch" in refused.err
    host.client("agent", "join", place, "--name", "far01", IBS_JOIN_TOKEN=token)  # it was not used up


def test_a_backup_on_a_host_is_one_task_of_the_server(world: World) -> None:
    done = world.server.admin(
        "backup", "run", "--store", "main", "--host", "web01", "--path", str(world.folder / "data/small")
    )
    assert "given to the agent of host web01" in done.out
    snapshots = world.server.admin("snapshot", "list", "main", "--output", "json").json()
    assert any(row["snapshot"].startswith("host/web01/") for row in snapshots)
    rows = world.server.admin("host", "list", "--output", "json").json()
    assert [(row["name"], row["state"]) for row in rows if row["built_in"] or row["name"] == "web01"] == [
        (rows[0]["name"], "online"),
        ("web01", "online"),
    ]
    status = world.host.client("agent", "status", "--output", "json").json()
    assert (status["state"], status["server"], status["running"]) == ("connected", world.line.address, [])


def test_the_host_decides_what_it_gives(world: World) -> None:
    refused = world.server.admin(
        "backup", "run", "--store", "main", "--host", "web01", "--path", str(world.folder / "server"), check=1
    )
    assert f"refused by this host: {world.folder}/server is not among the paths" in refused.out
    assert str(world.host.config) in refused.out


def test_stop_reaches_the_host(world: World) -> None:
    upid = world.order(world.big("stopped"))
    world.under_way(upid)
    assert shown(world.server, "web01")["running"] == [upid]
    world.server.admin("task", "stop", upid)
    assert world.ended(upid)["state"] == "CANCELLED"
    until(lambda: world.host.status().running == [])
    assert world.ended(world.order("small"))["state"] == "OK"


def test_a_killed_agent_fails_its_task_and_no_other(world: World) -> None:
    other = joined(world.server, "app01", world.folder / "app01")
    other.config.write_text("allow_all = true\n")
    other.config.chmod(0o600)
    other.start()
    try:
        upid = world.order(world.big("killed"))
        world.under_way(upid)
        world.host.kill()
        assert world.ended(world.order("small", "app01"))["state"] == "OK"  # other hosts' jobs go on
        view = world.ended(upid)
        assert view["state"] == "FAILED"
        assert view["message"].startswith("source unreachable: host web01, agent web01 0.")
        assert ", last contact 20" in view["message"]
        assert shown(world.server, "web01")["state"] == "silent"
        inbox = world.server.admin("notification", "inbox", "--output", "json").json()
        assert any("source unreachable: host web01" in row["text"] for row in inbox)
        # It comes back, and is used again by itself.
        world.host.start()
        world.connected()
        assert world.ended(world.order("small"))["state"] == "OK"
    finally:
        other.kill()


def test_an_agent_that_is_started_again_in_time_goes_on(world: World) -> None:
    upid = world.order(world.big("restarted"))
    world.under_way(upid)
    world.host.kill()
    world.host.start()
    view = world.ended(upid)
    assert view["state"] == "WARNING", view
    assert "was started anew and begins this backup again" in world.log(upid)
    assert "chunks that need not be sent again" in world.log(upid)


def test_a_line_that_swallows_everything(world: World) -> None:
    upid = world.order(world.big("swallowed"))
    world.under_way(upid)
    world.line.swallow()
    try:
        view = world.ended(upid)
        assert view["message"].startswith("source unreachable: host web01")
        until(lambda: world.host.status().state == "trying")
    finally:
        world.line.carry_on()
    world.connected()
    until(lambda: world.host.status().running == [])
    assert world.ended(world.order("small"))["state"] == "OK"


def test_a_restarted_server_finds_its_agents_again(world: World) -> None:
    upid = world.order(world.big("moved"))
    world.under_way(upid)
    world.server.kill()
    world.server = start_server(world.server.folder, config=f"agent_grace_seconds = {GRACE}\n")
    world.line.lead_to(world.server)
    world.connected()
    until(lambda: world.host.status().running == [])
    assert world.ended(upid)["ended"]
    assert world.ended(world.order("small"))["state"] == "OK"


def test_two_agents_of_one_name_are_refused(world: World) -> None:
    """A copied identity: the first one stays, the copy is told; and no second program on one folder."""
    world.connected()
    assert "an agent runs on" in world.host.client("agent", "run", check=6).err
    copy = world.folder / "copy"
    copy.mkdir()
    shutil.copytree(world.host.folder / "agent", copy / "agent")
    refused = world.host.client("agent", "run", check=3, IBS_AGENT_DIR=str(copy / "agent"))
    assert "error: another agent web01 is connected" in refused.err
    assert world.ended(world.order("small"))["state"] == "OK"
