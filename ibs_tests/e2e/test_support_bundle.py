"""Secrets and names are planted wherever a bundle looks; none of them comes out, and what is asked for is in it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from ibs.errors import ExitStatus
from ibs_tests.support.programs import ServerProcess, running_server

NAMES = ("zebrahost", "quaggauser", "okapispace", "gnufolder")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("bundle") / "gnufolder"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "file").write_text("x")
    with running_server(folder / "server", config='node = "zebrahost"\n') as running:
        running.admin("datastore", "create", "main", "--path", str(folder / "store"))
        running.admin("namespace", "create", "main", "okapispace")
        running.make_token("quaggauser", ("/datastore/main", "Datastore.Reader"))
        where = ("--ns", "okapispace", "--backup-id", "zebrahost")
        running.client("main", "backup", f"t.tree:{folder / 'data'}", *where)
        missing = ("--path", str(folder / "is not there"), "--backup-id", "quaggauser")
        running.admin("backup", "run", "--store", "main", *missing, check=None)
        job = ("job", "create", "nightly", "--store", "main", "--path", str(folder / "data"))
        running.admin(*job, "--ns", "okapispace", "--host", "zebrahost")
        hook = "https://hooks.zebrahost.example/services/hunter2hunter2"
        running.admin("notification", "target", "create", "webhook", "chat", "--url", hook)
        running.admin("notification", "target", "test", "chat", check=None)
        remote = ("--host", "zebrahost.example", "--auth-id", "quaggauser@ibs!t")
        pinned = ("--fingerprint", ":".join(["ab"] * 32))
        running.admin("remote", "create", "--name", "away", *remote, *pinned, IBS_REMOTE_SECRET="hunter2hunter2")
        log = running.folder / "log" / "api.log"
        with log.open("a") as file:
            file.write('{"time":"2026-01-01T00:00:00Z","event":"x","password":"hunter2hunter2"}\n')
            file.write(f"Authorization: Bearer {running.token}\n-----BEGIN PRIVATE KEY-----\nTUlJRXZnSUJBREFOQmdr\n")
        yield running


def unpacked(path: Path) -> dict[str, str]:
    content = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        members = {one.name.removeprefix("support-bundle/"): tar.extractfile(one) for one in tar}
        return {name: held.read().decode() for name, held in members.items() if held is not None}


def test_no_secret_and_no_name_comes_out(server: ServerProcess, tmp_path: Path) -> None:
    upid = server.admin("task", "list", "--type", "backup", "--state", "OK", "--output", "json").json()[0]["upid"]
    path = tmp_path / "b.tar.zst"
    server.admin("support-bundle", "--task", upid, "--output", str(path))
    found = unpacked(path)
    text = "\n".join(found.values())
    secrets = (server.token.rpartition(":")[2], "hunter2hunter2", "TUlJRXZnSUJBREFOQmdr")
    for word in (*secrets, *NAMES, str(server.folder)):
        places = [name for name, held in found.items() if word in held or word in name]
        assert not places, (word, places, [line for line in text.splitlines() if word in line][:3])
    assert "host-1" in text
    assert {"index.html", "index.txt", "server.txt", "audit.txt", "notifications.txt", "host.txt"} <= set(found)
    assert "MemTotal" in found["host.txt"]
    assert '"chat"' in found["notifications/targets.txt"]
    assert "notifications/history.txt" in found
    assert "nightly" in found["jobs.txt"]
    assert "away" in found["remotes.txt"]
    assert "suspiciously" in found["sla.txt"] or "learning" in found["sla.txt"]
    assert "bytes_free" in found["datastores/stats.txt"]
    assert any("TASK OK" in held for name, held in found.items() if name.startswith("tasks/"))
    for name, held in found.items():
        if not name.startswith("index"):
            assert all(line[:2] == "20" and line[19] == "Z" for line in held.splitlines() if line), name
    assert path.stat().st_mode & 0o077 == 0


def test_names_stay_on_request_and_secrets_never(server: ServerProcess, tmp_path: Path) -> None:
    path = tmp_path / "b.tar.zst"
    server.admin("support-bundle", "--no-redact", "--output", str(path))
    text = "\n".join(unpacked(path).values())
    assert all(name in text for name in NAMES)
    assert server.token.rpartition(":")[2] not in text
    assert "hunter2hunter2" not in text
    server.admin("support-bundle", "--output", str(path), check=ExitStatus.FAILED)
    server.admin("support-bundle", "--task", "UPID:none", "--output", str(tmp_path / "n"), check=ExitStatus.NOT_FOUND)


def test_the_watch_over_backups_sees_the_group(server: ServerProcess) -> None:
    group = "ns:okapispace/host/zebrahost"
    server.admin("sla", "set", group, "--rpo", "26h", "--min-size", "1GiB")
    [row] = server.admin("sla", "list", "--output", "json").json()
    assert (row["group"], row["state"], row["learned"]) == ("host/zebrahost", "suspiciously small", False)
    assert row["due"] > row["last"]
    server.admin("sla", "unset", group)
    assert "learning" in server.admin("sla", "list").out
