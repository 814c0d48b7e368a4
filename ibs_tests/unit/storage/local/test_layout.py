from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ibs.core.names import Group, Namespace, SnapshotName
from ibs.errors import FormatError, UsageError
from ibs.ports.chunkstore import PLAIN_DOMAIN, Address
from ibs.storage.local import layout

ID = bytes(range(32))
KEY = bytes(range(100, 132))


def test_chunk_names_follow_the_format() -> None:
    plain, sealed = Address(PLAIN_DOMAIN, ID), Address(KEY, ID)
    assert layout.chunk_name(plain) == ID.hex()
    assert layout.chunk_name(sealed) == f"{ID.hex()}-{KEY[:16].hex()}"
    assert layout.parse_chunk_name(layout.chunk_name(sealed)) == (ID, KEY[:16], False)
    assert layout.parse_chunk_name(f"{ID.hex()}.bad") == (ID, b"", True)


@pytest.mark.parametrize(
    "name", ["", ".tmp-3", "zz" * 32, "ab" * 31, ID.hex().upper(), f"{ID.hex()}-ab", f"{ID.hex()}\n"]
)
def test_other_names_are_no_chunks(name: str) -> None:
    assert layout.parse_chunk_name(name) is None


def test_prefixes_are_four_lower_case_hex_digits() -> None:
    assert layout.is_prefix("00ff")
    assert not any(map(layout.is_prefix, ("incoming", "00FF", "0ff", "00ff1")))


def test_folders_of_groups_and_snapshots_can_be_taken_apart() -> None:
    name = SnapshotName.parse("ns:a/b/host/web01/2026-11-22T19:00:00Z")
    folder = layout.snapshot_folder(name)
    assert folder == "@a/@b/host/web01/2026-11-22T19:00:00Z"
    moment = datetime(2026, 11, 22, 19, 0, tzinfo=UTC)
    assert layout.parse_folder(folder) == (Namespace(("a", "b")), Group("host", "web01"), moment)
    assert layout.parse_folder("ct/9") == (Namespace(), Group("ct", "9"), None)
    with pytest.raises(UsageError, match="names no time"):
        layout.snapshot_folder(SnapshotName.parse("host/web01"))


@pytest.mark.parametrize(
    "folder",
    [
        "",
        "/",
        "host",
        "host/..",
        "../host/a",
        "@../host/a",
        "host/a/b",
        "host//a",
        "disk/a",
        "@a",
        "host/a/2026-11-22T19:00:00Z/x",
    ],
)
def test_hostile_folders_are_refused(folder: str) -> None:
    with pytest.raises(UsageError):
        layout.parse_folder(folder)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".tmp-x", "-x", "a\0", "x" * 129, "é"])
def test_hostile_file_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        layout.check_file_name(name)
    assert layout.check_file_name("etc.tree.idx") == "etc.tree.idx"


def test_records_survive_their_json_and_ignore_what_later_versions_add() -> None:
    owner = layout.Owner(server="a", fence=3)
    assert layout.decode_record(layout.encode_record(owner), layout.Owner, "owner") == owner
    assert layout.decode_record(b'{"server":"a","fence":3,"more":1}', layout.Owner, "owner") == owner


@pytest.mark.parametrize("data", [b"", b"{}", b'{"server":1,"fence":2}', b"\xff", b"[" * 10_000])
def test_damaged_records_are_format_errors(data: bytes) -> None:
    with pytest.raises(FormatError, match="owner cannot be read"):
        layout.decode_record(data, layout.Owner, "owner")


def test_a_later_format_is_refused() -> None:
    data = b'{"format":2,"uuid":"u","created":"c","name":"n"}'
    with pytest.raises(FormatError, match="format 2"):
        layout.decode_record(data, layout.Identity, "datastore.json")
