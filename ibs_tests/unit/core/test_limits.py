"""The limits fit each other and the formats they are part of."""

from __future__ import annotations

from ibs.core import blob, limits

FORMAT_VERSION_1 = {
    "CHUNK_PLAIN_BYTES_MAX": 4_194_304,
    "TREE_CHUNK_BYTES_MIN": 262_144,
    "TREE_CHUNK_BYTES_AVG": 1_048_576,
    "TREE_CHUNK_BYTES_MAX": 4_194_304,
    "IMAGE_CHUNK_BYTES": 4_194_304,
    "SMALL_FILE_BYTES_MAX": 1_048_576,
    "METADATA_BLOCK_BYTES_MIN": 65_536,
    "METADATA_BLOCK_BYTES_MAX": 1_048_576,
    "ENTRY_EXTENTS_MAX": 1024,
    "ENTRY_XATTR_BYTES_MAX": 262_144,
    "PATH_BYTES_MAX": 262_144,
    "NODE_CHILDREN_MAX": 1024,
    "TREE_DEPTH_MAX": 8,
    "INDEX_RECORDS_MAX": 4_294_967_296,
    "MANIFEST_BYTES_MAX": 4_194_304,
    "MANIFEST_ARCHIVES_MAX": 256,
    "SNAPSHOT_BLOB_BYTES_MAX": 16_777_216,
}


def test_limits_of_the_formats_stay_what_they_are() -> None:
    assert {name: getattr(limits, name) for name in FORMAT_VERSION_1} == FORMAT_VERSION_1


def test_every_limit_is_a_positive_number() -> None:
    values = {name: value for name, value in vars(limits).items() if name.isupper()}
    assert values
    assert all(isinstance(value, int | float) and value > 0 for value in values.values())


def test_chunks_fit_their_blobs_and_bodies() -> None:
    assert limits.TREE_CHUNK_BYTES_MAX <= limits.CHUNK_PLAIN_BYTES_MAX
    assert limits.IMAGE_CHUNK_BYTES <= limits.CHUNK_PLAIN_BYTES_MAX
    assert blob.BLOB_BYTES_MAX <= limits.CHUNK_BODY_BYTES_MAX


def test_metadata_blocks_fit_chunks() -> None:
    """A block at its maximum may grow by one entry: path (twice for a hard link), xattrs, ids and extents."""
    extents = limits.ENTRY_EXTENTS_MAX * (32 + 3 * 9)
    entry = 2 * limits.PATH_BYTES_MAX + limits.ENTRY_XATTR_BYTES_MAX + extents
    assert limits.METADATA_BLOCK_BYTES_MIN < limits.METADATA_BLOCK_BYTES_MAX
    assert limits.METADATA_BLOCK_BYTES_MAX + entry < limits.CHUNK_PLAIN_BYTES_MAX


def test_ranges_are_ordered() -> None:
    assert limits.TREE_CHUNK_BYTES_MIN < limits.TREE_CHUNK_BYTES_AVG < limits.TREE_CHUNK_BYTES_MAX
    assert limits.RESTART_BACKOFF_SECONDS_MIN < limits.RESTART_BACKOFF_SECONDS_MAX
    assert limits.SESSION_HEARTBEAT_SECONDS * 3 < limits.SESSION_IDLE_SECONDS_MAX
    assert limits.UNAUTHENTICATED_CONNECTIONS_MAX < limits.CONNECTIONS_MAX
    assert limits.MANIFEST_BYTES_MAX <= limits.JSON_BODY_BYTES_MAX
