"""A snapshot is trusted as far as its signature goes, and is the one that was asked for."""

from __future__ import annotations

import pytest

from ibs.client.restore.snapshot import LastSeen, open_snapshot
from ibs.core.ids import digest, hex_fingerprint
from ibs.core.keys import DataKeys
from ibs.core.manifest import encode, sign
from ibs.errors import FingerprintMismatch, FormatError, NotFoundError, SignatureInvalid, UsageError
from ibs.runtime.pool import InlinePool
from ibs_tests.support.restores import SERVER_SEED, SNAPSHOT, STORE, MemorySnapshot, MemoryTransport, folder

KEYS = DataKeys.from_root(b"k" * 32)
OTHER = DataKeys.from_root(b"o" * 32)


def transport_of(keys: DataKeys | None = None, **changes: object) -> MemoryTransport:
    snapshot = MemorySnapshot(keys=keys, **changes)  # type: ignore[arg-type]
    snapshot.add_tree("a.tree", [folder(b"")])
    return snapshot.transport()


async def test_without_a_key_the_server_is_believed() -> None:
    opened = await open_snapshot(transport_of(), STORE, SNAPSHOT)
    assert (opened.signed_by, opened.encrypted, opened.warnings) == ("server", False, ())
    assert opened.manifest_digest == digest(opened.opened.manifest.encode()).hex()


async def test_with_a_key_only_its_own_signature_counts() -> None:
    opened = await open_snapshot(transport_of(KEYS), STORE, SNAPSHOT, keys=KEYS)
    assert (opened.signed_by, opened.encrypted) == ("client", True)
    assert "k" * 8 not in repr(opened)


async def test_with_a_key_the_servers_signature_is_refused() -> None:
    transport = transport_of()
    with pytest.raises(SignatureInvalid, match="signed by the server"):
        await open_snapshot(transport, STORE, SNAPSHOT, keys=KEYS)
    assert transport.closed == ("FAILED", 0, "signature-invalid")


async def test_another_key_than_the_wanted_one_is_called_that() -> None:
    wanted, offered = (hex_fingerprint(keys.fingerprint) for keys in (KEYS, OTHER))
    with pytest.raises(FingerprintMismatch, match=f"wants key {wanted}, offered was {offered}"):
        await open_snapshot(transport_of(KEYS), STORE, SNAPSHOT, keys=OTHER)
    with pytest.raises(FingerprintMismatch, match="offered was none"):
        await open_snapshot(transport_of(KEYS), STORE, SNAPSHOT)


async def test_with_a_key_a_foreign_signature_is_refused() -> None:
    transport = transport_of(KEYS)
    foreign = sign(transport.manifest_text.encode(), OTHER.signing_seed, "client")
    transport.replies |= {"signature": foreign.signature, "signer": foreign.signer}
    with pytest.raises(SignatureInvalid, match="another key"):
        await open_snapshot(transport, STORE, SNAPSHOT, keys=KEYS)


async def test_a_signer_that_only_claims_to_be_us_is_refused() -> None:
    transport = transport_of(KEYS)
    forged = sign(transport.manifest_text.encode(), SERVER_SEED, "client")
    transport.replies["signature"] = forged.signature
    with pytest.raises(SignatureInvalid, match="does not fit"):
        await open_snapshot(transport, STORE, SNAPSHOT, keys=KEYS)


@pytest.mark.parametrize("keys", [None, KEYS])
async def test_a_changed_manifest_is_refused(keys: DataKeys | None) -> None:
    transport = transport_of(keys)
    transport.replies["manifest"] = transport.manifest_text.replace('"sequence": 1', '"sequence": 2')
    with pytest.raises(SignatureInvalid, match="does not fit"):
        await open_snapshot(transport, STORE, SNAPSHOT, keys=keys)


async def test_unsigned_is_refused_with_a_key_and_warned_of_without() -> None:
    transport = transport_of(KEYS)
    transport.replies["signature"] = ""
    with pytest.raises(SignatureInvalid, match="not signed"):
        await open_snapshot(transport, STORE, SNAPSHOT, keys=KEYS)
    transport = transport_of()
    transport.replies["signature"] = ""
    opened = await open_snapshot(transport, STORE, SNAPSHOT)
    assert opened.signed_by == ""
    assert "not signed" in opened.warnings[0]


async def test_an_encrypted_snapshot_names_the_key_it_wants() -> None:
    with pytest.raises(FingerprintMismatch) as caught:
        await open_snapshot(transport_of(KEYS), STORE, SNAPSHOT)
    assert caught.value.details == {"wanted": hex_fingerprint(KEYS.fingerprint), "offered": "none"}


@pytest.mark.parametrize("asked", [SNAPSHOT, "host/web01"])
async def test_the_snapshot_asked_for(asked: str) -> None:
    assert (await open_snapshot(transport_of(), STORE, asked)).manifest.snapshot == SNAPSHOT


@pytest.mark.parametrize(
    "asked", ["host/web02", "ct/web01", "host/web01/2026-11-22T19:00:01Z", "ns:a/host/web01", f"ns:a/{SNAPSHOT}"]
)
async def test_another_one_is_never_taken_for_it(asked: str) -> None:
    transport = transport_of()
    with pytest.raises(SignatureInvalid, match="asked for"):
        await open_snapshot(transport, STORE, asked)
    assert transport.closed is not None


async def test_the_answers_own_name_must_agree_with_the_manifest() -> None:
    transport = transport_of()
    transport.replies["snapshot"] = "host/web01/2026-11-22T19:00:01Z"
    with pytest.raises(SignatureInvalid, match="asked for"):
        await open_snapshot(transport, STORE, "host/web01")


async def test_rubbish_is_refused() -> None:
    transport = transport_of()
    transport.replies["manifest"] = "{}"
    with pytest.raises(FormatError):
        await open_snapshot(transport, STORE, SNAPSHOT)
    assert transport.closed is not None
    with pytest.raises(UsageError):
        await open_snapshot(transport_of(), STORE, "nonsense")


@pytest.mark.parametrize(
    ("asked", "sequence", "other_digest", "warned"),
    [
        ("host/web01", 6, False, True),
        ("host/web01", 5, True, True),
        ("host/web01", 5, False, False),
        ("host/web01", 4, True, False),
        (SNAPSHOT, 6, False, False),
    ],
)
async def test_a_server_that_went_back_is_noticed(asked: str, sequence: int, other_digest: bool, warned: bool) -> None:
    transport = transport_of(sequence=5)
    seen = digest(b"x" if other_digest else transport.manifest_text.encode()).hex()
    opened = await open_snapshot(transport, STORE, asked, last_seen=LastSeen(sequence, seen))
    assert bool(opened.warnings) == warned


async def test_an_index_is_the_one_the_manifest_states() -> None:
    transport = transport_of()
    opened = await open_snapshot(transport, STORE, SNAPSHOT)
    header, raw = await opened.index("a.tree", InlinePool())
    assert header.kind == "tree"
    files = transport.snapshot.files
    files["a.tree.idx"] = raw[:-1] + bytes([raw[-1] ^ 1])
    with pytest.raises(FormatError, match="not the one its manifest states"):
        await opened.index("a.tree", InlinePool())
    other = MemorySnapshot()
    other.add_tree("a.tree", [folder(b""), folder(b"x")])
    files["a.tree.idx"] = other.files["a.tree.idx"]  # whole, but another one
    with pytest.raises(FormatError, match="not the one its manifest states"):
        await opened.index("a.tree", InlinePool())


async def test_an_index_that_contradicts_the_manifest_is_refused() -> None:
    snapshot = MemorySnapshot()
    snapshot.add_tree("a.tree", [folder(b"")])
    (archive,) = snapshot.archives
    values = {name: getattr(archive, name) for name in archive.__struct_fields__}
    snapshot.archives = [type(archive)(**{**values, "plain_bytes": 5})]
    transport = snapshot.transport()
    opened = await open_snapshot(transport, STORE, SNAPSHOT)
    with pytest.raises(FormatError, match="contradicts"):
        await opened.index("a.tree", InlinePool())
    assert encode(opened.manifest)


async def test_an_archive_that_is_not_there() -> None:
    opened = await open_snapshot(transport_of(), STORE, SNAPSHOT)
    with pytest.raises(NotFoundError) as caught:
        await opened.index("b.tree", InlinePool())
    assert caught.value.hint == "its archives are: a.tree"
    with pytest.raises(UsageError):
        opened.archive("../a.tree")
