"""Drills for copying between two servers, as an administrator meets them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ibs_tests.support.programs import ServerProcess, running_server


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    folder = tmp_path_factory.mktemp("sites")
    with running_server(folder / "a") as here, running_server(folder / "b") as there:
        there.admin("datastore", "create", "replica", "--path", str(folder / "replica"))
        yield here, there


def secret_of(there: ServerProcess, name: str) -> str:
    there.admin("user", "create", f"{name}@ibs")
    return str(there.admin("token", "create", f"{name}@ibs!site-a", "--output", "json").json()["secret"])


def remote(here: ServerProcess, there: ServerProcess, name: str, secret: str, folder: Path) -> None:
    file = folder / "secret"
    file.write_text(secret)
    here.admin(
        "remote",
        "create",
        "--name",
        name,
        "--host",
        "127.0.0.1",
        "--port",
        str(there.facts["address"]).rpartition(":")[2],
        "--auth-id",
        f"{name}@ibs!site-a",
        "--fingerprint",
        str(there.facts["fingerprint"]),
        "--secret-file",
        str(file),
    )


def test_who_is_refused_there_is_told_what_to_do(sites: tuple[ServerProcess, ServerProcess], tmp_path: Path) -> None:
    here, there = sites
    secret_of(there, "other")
    remote(here, there, "other", "not-the-secret", tmp_path)
    refused = here.admin("remote", "test", "other", check=3).err
    assert "that is what remote other says" in refused
    assert "remote update --name other --secret-file" in refused


def test_s14_and_s16_a_job_that_may_not_or_cannot_says_why_and_goes_on_once_it_can(
    sites: tuple[ServerProcess, ServerProcess], tmp_path: Path
) -> None:
    here, there = sites
    job = ("--name", "primary-to-backup-archival")
    remote(here, there, "primary", secret_of(there, "primary"), tmp_path)
    here.admin("datastore", "create", "archive", "--path", str(tmp_path / "archive"))
    here.admin("sync", "create", *job, "--remote", "primary", "--source", "replica", "--store", "archive")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(b"x" * 100_000)
    there.client("replica", "backup", f"t.tree:{tmp_path / 'tree'}", "--backup-id", "web01")

    refused = here.admin("sync", "run", *job, check=None)
    assert refused.status != 0
    for words in ("not authorised: primary@ibs!site-a", "/datastore/replica", "that is what remote primary says"):
        assert words in refused.out + refused.err
    assert "not authorised" in here.admin("sync", "status", *job, "--output", "json").json()["last_error"]
    for who in ("primary@ibs", "primary@ibs!site-a"):
        there.admin("acl", "grant", "/datastore/replica", "Datastore.Reader", who)

    here.admin("datastore", "quarantine", "archive", "--reason", "suspected")
    held = here.admin("sync", "run", *job, check=3)
    assert "datastore archive is quarantined (suspected)" in held.err
    here.admin("datastore", "release", "archive", "--cause", "nothing found")

    assert "1 snapshots brought" in here.admin("sync", "run", *job).out
    status = here.admin("sync", "status", *job, "--output", "json").json()
    assert (status["state"], status["last_error"], status["remote_trouble"]) == ("OK", "", "")
    assert status["free_bytes_here"] > 0
    assert status["free_bytes_remote"] > 0


def test_s13_a_changed_certificate_is_never_taken_by_itself(
    sites: tuple[ServerProcess, ServerProcess], tmp_path: Path
) -> None:
    here, there = sites
    secret = secret_of(there, "backup-site")
    remote(here, there, "backup-site", secret, tmp_path)
    assert "may see no datastore there" in here.admin("remote", "test", "backup-site").out
    there.admin("acl", "grant", "/datastore/replica", "Datastore.Reader", "backup-site@ibs!site-a")
    there.admin("acl", "grant", "/datastore/replica", "Datastore.Reader", "backup-site@ibs")
    assert "replica" in here.admin("remote", "test", "backup-site").out, "granting cures at once"
    pinned = str(there.facts["fingerprint"])
    offered = there.admin("certificate", "renew", "--output", "json").json()["fingerprint"]
    assert offered != pinned
    for _ in range(2):
        refused = here.admin("remote", "test", "backup-site", check=3).err
        assert "TLS fingerprint mismatch" in refused
        assert pinned in refused
        assert offered in refused
        assert "remote update --name backup-site --fingerprint" in refused
    assert "TLS fingerprint mismatch" in here.admin("remote", "list").out
    told = [
        row for row in here.admin("notification", "inbox", "--output", "json").json() if "fingerprint" in row["text"]
    ]
    assert len(told) == 1, "one event until it is cured"
    here.admin("remote", "update", "--name", "backup-site", "--fingerprint", offered)
    assert "replica" in here.admin("remote", "test", "backup-site").out
    for folder in (here.folder, there.folder):
        for path in folder.rglob("*"):
            if path.is_file() and path.suffix in {".log", ".jsonl", ".db"}:
                assert secret.encode() not in path.read_bytes(), path
