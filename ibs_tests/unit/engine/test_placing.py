"""Where a datastore may be made, and through which disguises another one is still recognised."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ibs.engine.placing import check_place
from ibs.errors import ConflictError, UsageError
from ibs.ports.catalog import DatastoreRecord
from ibs.storage.local import LocalStore


@pytest.mark.parametrize("path", ["/srv/\0", "/srv/" + "x" * 300, "/srv" + "/abc" * 2000])
def test_paths_that_no_file_system_takes(path: str) -> None:
    with pytest.raises(UsageError, match="none that a file system takes"):
        check_place(path, [])


def test_the_servers_own_folders_are_no_place(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    for place in (state, state / "store", tmp_path):
        with pytest.raises(ConflictError, match="own folder"):
            check_place(str(place), [], [str(state)])
    check_place(str(tmp_path / "state-2"), [], [str(state)])


def record(path: Path | str) -> DatastoreRecord:
    return DatastoreRecord("old", str(path), "u")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder that a record names, with something in it."""
    (tmp_path / "srv" / "old" / "ns").mkdir(parents=True)
    return tmp_path / "srv" / "old"


@pytest.mark.parametrize("path", ["relative", "", "./x", "/a\0b", "/"])
def test_paths_that_cannot_serve(path: str) -> None:
    with pytest.raises(UsageError):
        check_place(path, [])


@pytest.mark.parametrize("place", ["", "/ns", "/ns/deep/er", "/.", "/ns/../x"])
def test_in_another(old: Path, place: str) -> None:
    with pytest.raises(ConflictError, match="datastore old"):
        check_place(f"{old}{place}", [record(old)])


def test_around_another(old: Path) -> None:
    with pytest.raises(ConflictError, match="would hold datastore old"):
        check_place(str(old.parent), [record(old)])


def test_beside_another_with_a_similar_name(old: Path) -> None:
    check_place(f"{old}-2", [record(old)])
    check_place(str(old)[:-1], [record(old)])


def test_through_links(old: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(old)
    (tmp_path / "up").symlink_to(old.parent)
    for place in ("link", "link/new", "up/old/new", "up"):
        with pytest.raises(ConflictError):
            check_place(str(tmp_path / place), [record(old)])
    # The other way round: the configured path is a link, also one that leads nowhere for now.
    with pytest.raises(ConflictError):
        check_place(str(old / "ns"), [record(tmp_path / "link")])
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    with pytest.raises(ConflictError):
        check_place(str(tmp_path / "dangling"), [record(tmp_path / "dangling")])


def test_a_store_that_no_record_names(tmp_path: Path) -> None:
    stray = tmp_path / "stray"
    LocalStore.create(str(stray), "stray", "u", created=datetime.now(UTC))
    with pytest.raises(ConflictError, match="lies in the datastore"):
        check_place(str(stray / "ns"), [])
    with pytest.raises(ConflictError, match="holds the datastore"):
        check_place(str(tmp_path), [])
    (tmp_path / "link").symlink_to(stray / "chunks")
    with pytest.raises(ConflictError):
        check_place(str(tmp_path / "link" / "new"), [])


def mountinfo(tmp_path: Path, *mounts: tuple[str, str, str]) -> str:
    """A mount table: (mount point, device, root inside the file system)."""
    lines = [f"{n} 1 {dev} {root} {at} rw - ext4 /dev/x rw" for n, (at, dev, root) in enumerate(mounts, 20)]
    table = tmp_path / "mountinfo"
    table.write_text("\n".join(lines) + "\n")
    return str(table)


def test_through_bind_mounts(old: Path, tmp_path: Path) -> None:
    """/mnt/bound shows what lies in the other store; no path tells."""
    bound, inside = tmp_path / "bound", str(old)
    bound.mkdir()
    for root in (f"{inside}/ns", inside, str(old.parent)):
        table = mountinfo(tmp_path, ("/", "8:1", "/"), (str(bound), "8:1", root))
        with pytest.raises(ConflictError):
            check_place(str(bound), [record(old)], mountinfo=table)
    table = mountinfo(tmp_path, ("/", "8:1", "/"), (str(bound), "8:2", f"{inside}/ns"))
    check_place(str(bound), [record(old)], mountinfo=table)  # the same path on another device
    table = mountinfo(tmp_path, ("/", "8:1", "/"), (str(old), "8:2", "/x"), (str(bound), "8:2", "/x/y"))
    with pytest.raises(ConflictError):
        check_place(str(bound), [record(old)], mountinfo=table)


def test_spaces_in_mount_points_are_understood(old: Path, tmp_path: Path) -> None:
    bound = tmp_path / "with space"
    bound.mkdir()
    escaped = str(bound).replace(" ", "\\040")
    table = mountinfo(tmp_path, ("/", "8:1", "/"), (escaped, "8:1", f"{old}/ns"))
    with pytest.raises(ConflictError):
        check_place(str(bound), [record(old)], mountinfo=table)


def test_without_a_mount_table_paths_still_count(old: Path, tmp_path: Path) -> None:
    with pytest.raises(ConflictError):
        check_place(str(old), [record(old)], mountinfo=str(tmp_path / "none"))


@pytest.mark.root
def test_through_a_real_bind_mount(old: Path, tmp_path: Path) -> None:
    bound = tmp_path / "bound"
    bound.mkdir()
    done = subprocess.run(["mount", "--bind", str(old / "ns"), str(bound)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"mount --bind is not permitted here: {done.stderr.decode().strip()}")
    try:
        with pytest.raises(ConflictError):
            check_place(str(bound), [record(old)])
    finally:
        subprocess.run(["umount", str(bound)], check=True)


def test_the_root_of_a_file_system_is_warned_of() -> None:
    mounts = [path for path in ("/sys", "/dev/pts", "/proc") if os.path.ismount(path)]
    assert mounts
    (warning,) = check_place(mounts[0], [])
    assert "root of a file system" in warning
