"""What is believed of a snapshot that another server offers, and in which parts it arrives."""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec
import pytest

from ibs.core import limits, manifest
from ibs.core.ids import hex_fingerprint
from ibs.core.keys import DataKeys
from ibs.errors import FormatError, SignatureInvalid
from ibs.services import pulling
from ibs.services.pulling import Wish, checked
from ibs.wire.reader import ReaderOpened
from ibs_tests.support.restores import SERVER_SEED, SNAPSHOT, STORE, MemorySnapshot, folder

KEYS = DataKeys.from_root(b"k" * 32)
WISH = Wish("site-b", manifest.public_key(SERVER_SEED), "main", SNAPSHOT)


@dataclass
class Offer:
    """What the remote answers."""

    opened: ReaderOpened

    def but(self, **changes: str) -> ReaderOpened:
        return msgspec.structs.replace(self.opened, **changes)


async def offer(keys: DataKeys | None = None) -> Offer:
    snapshot = MemorySnapshot(keys=keys)
    snapshot.add_tree("t.tree", [folder(b"")])
    return Offer(await snapshot.transport().open(STORE, SNAPSHOT))


async def test_a_plain_one_is_vouched_for_by_its_own_server() -> None:
    offered = await offer()
    found = checked(offered.opened, replace(WISH, notes="n", protected=True))
    assert (found.signature.by, found.notes, found.protected) == ("server", "n", True)
    with pytest.raises(SignatureInvalid, match="not remote site-b"):
        checked(offered.opened, replace(WISH, signer=b"x" * 32))


async def test_an_encrypted_one_by_its_client() -> None:
    found = checked((await offer(KEYS)).opened, WISH)
    assert found.signature.by == "client"
    assert found.manifest.key_fingerprint == hex_fingerprint(KEYS.fingerprint)


async def test_one_snapshot_is_not_passed_off_as_another() -> None:
    offered = await offer()
    other = SNAPSHOT.replace("2026", "2025")
    with pytest.raises(SignatureInvalid, match="asked for"):
        checked(offered.opened, replace(WISH, snapshot=other))
    with pytest.raises(SignatureInvalid, match="answered with"):
        checked(offered.but(snapshot=other), WISH)
    with pytest.raises(SignatureInvalid, match="not signed"):
        checked(offered.but(signature=""), WISH)
    with pytest.raises(FormatError):
        checked(offered.but(manifest="{}"), WISH)


def test_parts_are_as_large_as_a_session_takes() -> None:
    large = bytes(limits.CHUNK_BODY_BYTES_MAX)
    parts = list(pulling._parts([b"a", b"b", large, b"c", large[:-1], b"d", b"e"]))
    assert [len(part) for part in parts] == [2, 1, 2, 2]
    assert b"".join(bytes(blob) for part in parts for blob in part) == b"ab" + large + b"c" + large[:-1] + b"de"
    assert all(sum(map(len, part)) <= limits.CHUNK_BODY_BYTES_MAX for part in parts)
    assert list(pulling._parts([])) == []
