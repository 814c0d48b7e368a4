"""One order of the server: allowed or refused, taken up again over bad lines, its end told until it is heard."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock

from ibs.client.agent.job import Job, pauses
from ibs.client.agent.policy import Policy
from ibs.core import masterkey
from ibs.core.ids import hex_fingerprint
from ibs.core.keys import DataKeys
from ibs.errors import FormatError, NotFoundError, Quarantined, SessionLost
from ibs.runtime.clock import LoopClock
from ibs.runtime.pool import InlinePool
from ibs.security import keyfile
from ibs.security.keyfile import LoadedKey
from ibs.wire.hosts import AgentRun
from ibs.wire.system import BackupRun
from ibs_tests.unit.client.agent.conftest import FakeServer

SESSIONS, END, LOG = "/agent/tasks/U1/sessions", "/agent/tasks/U1/end", "/agent/tasks/U1/log"


def job(server: FakeServer, folder: Path, *, policy: Policy | None = None, **more: Any) -> Job:
    run = BackupRun(store="main", sources=[f"etc.tree:{folder}"], backup_id="web01", host="web01", **more)
    allowed = policy or Policy(Path("/nowhere"), allow_all=True)
    return Job(
        AgentRun(upid="U1", run=run),
        "web01",
        server.client(),
        lambda: allowed,
        pool=InlinePool(),
        clock=LoopClock(),
        entropy=bytes,
    )


async def test_the_session_is_asked_for_at_the_task(tmp_path: Path, autojump_clock: MockClock) -> None:
    server = FakeServer()
    server.answers[SESSIONS] = Quarantined("main", "a disk lies", "new backups")
    await job(server, tmp_path).run()
    opened = server.bodies(SESSIONS)[0]
    assert (opened["store"], opened["group"], opened["archives"]) == ("main", "host/web01", ["etc.tree"])
    end = server.bodies(END)[0]
    assert (end["status"], end["code"]) == ("FAILED", "quarantined")
    assert "datastore main is quarantined" in end["message"]


async def test_bad_lines_and_lost_sessions_are_taken_up_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    server = FakeServer()
    answers: list[Any] = [httpx.ReadError("reset"), SessionLost("no sign"), httpx.ConnectError("refused")]
    answers += [Quarantined("main", "", "new backups")]

    async def answer(_body: Any) -> Any:
        return answers.pop(0)

    server.answers[SESSIONS] = answer
    await job(server, tmp_path).run()
    assert len(server.bodies(SESSIONS)) == 4
    assert len(server.bodies(END)) == 1


async def test_the_hosts_key_is_used_and_what_it_hides_is_not_told(tmp_path: Path, autojump_clock: MockClock) -> None:
    keys, folder = DataKeys.from_root(b"a" * 32), tmp_path / "data"
    folder.mkdir()
    wrong = FormatError("the block at 'secret-name' is not what its node says")
    for mode, told in (("encrypt", False), ("sign-only", True)):
        file = tmp_path / f"{mode}.key"
        made = LoadedKey(keys, mode, "", "", has_passphrase=False)  # type: ignore[arg-type]
        keyfile.write(file, keyfile.seal(made, ""))
        server = FakeServer()
        server.answers[SESSIONS] = wrong
        await job(server, folder, policy=Policy(Path("/x"), allow_all=True, keyfile=str(file))).run()
        opened, end = server.bodies(SESSIONS)[0], server.bodies(END)[0]
        used = "key_fingerprint" if mode == "encrypt" else "signing_key"
        assert opened[used] == hex_fingerprint(keys.fingerprint)
        assert ("secret-name" in end["message"]) is told


async def test_the_owner_of_the_hosts_master_key_gets_it_wrapped(tmp_path: Path) -> None:
    golden = Path(__file__).parents[3] / "compat" / "golden" / "master-public.json"
    master = masterkey.decode_public(golden.read_bytes())
    keys = DataKeys.from_root(b"a" * 32)
    keyfile.write(
        tmp_path / "key",
        keyfile.seal(LoadedKey(keys, "encrypt", "", "", has_passphrase=False, master=master), ""),
    )
    policy = Policy(Path("/x"), allow_all=True, keyfile=str(tmp_path / "key"))
    made = job(FakeServer(), tmp_path, policy=policy)._plan(policy)
    wrapped = masterkey.decode_wrapped(made.wrapped_key)
    assert (wrapped.master, wrapped.key_fingerprint) == (master.fingerprint, hex_fingerprint(keys.fingerprint))


async def test_without_its_key_a_host_sends_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    server = FakeServer()
    await job(server, tmp_path, policy=Policy(Path("/x"), allow_all=True, keyfile=str(tmp_path / "gone"))).run()
    assert server.bodies(SESSIONS) == []
    assert "there is no keyfile" in server.bodies(END)[0]["message"]


async def test_a_task_that_is_not_ours_any_more_ends_quietly(tmp_path: Path, autojump_clock: MockClock) -> None:
    server = FakeServer()
    server.answers[SESSIONS] = NotFoundError("task U1 is not given to this agent", given=False)
    await job(server, tmp_path).run()
    assert server.bodies(END) == []


async def test_the_end_is_told_until_it_is_heard(tmp_path: Path, autojump_clock: MockClock) -> None:
    server = FakeServer()
    answers: list[Any] = [httpx.ConnectError("refused")] * 3 + [None]

    async def answer(_body: Any) -> Any:
        return answers.pop(0)

    server.answers[END] = answer
    await job(server, tmp_path, policy=Policy(Path("/etc/agent.toml"))).run()
    assert answers == []
    assert "refused by this host" in server.bodies(END)[-1]["message"]
    assert "/etc/agent.toml" in server.bodies(END)[-1]["hint"]


async def test_a_line_held_for_dead_is_made_anew(
    tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = FakeServer()

    async def swallowed(_body: Any) -> Any:
        if len(server.bodies(SESSIONS)) == 1:
            await trio.sleep_forever()
        return Quarantined("main", "", "new backups")

    server.answers[SESSIONS] = swallowed
    one = job(server, tmp_path)
    nursery.start_soon(one.run)
    await trio.sleep(5)
    assert server.bodies(END) == []
    one.begin_again()  # its connections are new
    await trio.sleep(5)
    assert server.bodies(END) == []
    one.begin_again()
    await trio.sleep(5)
    assert len(server.bodies(END)) == 1


async def test_stopped(tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    server = FakeServer()

    async def never(_body: Any) -> Any:
        await trio.sleep_forever()

    server.answers[SESSIONS] = never
    one = job(server, tmp_path)
    nursery.start_soon(one.run)
    await trio.sleep(1)
    one.stop()
    await trio.testing.wait_all_tasks_blocked()
    assert server.bodies(END) == []


@pytest.mark.parametrize(("text", "posted"), [("echo frozen", 1), ("echo no; exit 1", 0)])
async def test_hooks_before_and_after(tmp_path: Path, text: str, posted: int) -> None:
    server = FakeServer()
    server.answers[SESSIONS] = Quarantined("main", "", "new backups")
    for name, body in (("pre", text), ("post", 'echo "after $IBS_STATUS"; exit 1')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    policy = Policy(Path("/nowhere"), allow_all=True, hooks=("pre", "post"), hooks_dir=tmp_path)
    await job(server, tmp_path, policy=policy, pre_hook="pre", post_hook="post").run()
    lines = [line for report in server.bodies(LOG) for line in report["lines"]]
    if posted:
        assert lines[0]["text"] == "pre: frozen"
        assert lines[1]["level"] == "warning"
        assert lines[1]["text"] == "hook post failed with status 1: after FAILED"
        assert "quarantined" in server.bodies(END)[0]["message"]
    else:
        assert server.bodies(SESSIONS) == []
        assert server.bodies(END)[0]["message"] == "hook pre failed with status 1: no"


def test_pauses_have_no_end_and_a_bound() -> None:
    steps = list(itertools.islice(pauses(lambda count: b"\xff" * count), 1000))
    assert steps[0] < steps[1]
    assert steps[-1] == max(steps) == 15
