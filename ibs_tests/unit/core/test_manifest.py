"""Manifests, signatures and snapshot state."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest

from ibs.core import limits, manifest
from ibs.core.ids import hex_fingerprint
from ibs.core.keys import DataKeys
from ibs.core.manifest import GroupOwner, Manifest, ManifestArchive, ManifestBlob, Signature, SnapshotState, VerifyState
from ibs.errors import FormatError, SignatureInvalid

KEYS = DataKeys.from_root(bytes(range(32)))
FINGERPRINT = hex_fingerprint(KEYS.fingerprint)
DIGEST = "0123456789abcdef" * 4


def archive(**changes: Any) -> ManifestArchive:
    fields: dict[str, Any] = {
        "name": "etc.tree",
        "kind": "tree",
        "plain_bytes": 1234,
        "records": 3,
        "index_bytes": 256 + 3 * 40,
        "index_digest": DIGEST,
        "entries": 17,
    }
    return ManifestArchive(**fields | changes)


def make(**changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "datastore": "6c1d0f0e-63a5-4c65-9d6f-0d3b8f1b2a11",
        "snapshot": "ns:a/b/host/web01/2026-11-22T19:00:00Z",
        "sequence": 2,
        "previous": DIGEST,
        "created": "2026-11-22T19:00:03Z",
        "client": "web01 ironcore-backup-client 0.1.0",
        "owner": "web01@ibs!backup",
        "mode": "plain",
        "archives": (archive(),),
        "blobs": (ManifestBlob(name="client.log", bytes=10, digest=DIGEST),),
        "stats": {"files": 17, "bytes_read": 1234},
    }
    return Manifest(**fields | changes)


def encrypted(**changes: Any) -> Manifest:
    mine = {"mode": "encrypted", "key_fingerprint": FINGERPRINT, "archives": (archive(key_fingerprint=FINGERPRINT),)}
    return make(**mine | changes)


def altered(**changes: Any) -> bytes:
    """Bytes of a manifest with some JSON fields replaced, unchecked."""
    fields = json.loads(manifest.encode(make())) | changes
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


@pytest.mark.parametrize(
    "given",
    [make(), encrypted(), make(mode="signed"), make(mode="signed", key_fingerprint=FINGERPRINT),
     make(archives=(), blobs=()),
     make(archives=(archive(name="d.img", kind="img", index_bytes=256 + 96, entries=0), archive())),
     make(snapshot="vm/100/2026-11-22T19:00:00Z", sequence=1, previous="", owner="root@ibs", client="hôte 0.1")],
)  # fmt: skip
def test_round_trip(given: Manifest) -> None:
    data = manifest.encode(given)
    assert manifest.decode(data) == given
    assert manifest.decode(memoryview(bytearray(data))) == given
    assert manifest.encode(manifest.decode(data)) == data


def test_the_written_form_is_canonical() -> None:
    one = manifest.encode(make(stats={"b": 1, "a": 2}))
    assert one == manifest.encode(make(stats={"a": 2, "b": 1}))
    assert one.startswith(b'{\n "format": 1,\n "datastore": ')
    assert list(json.loads(one)) == [name for name in Manifest.__struct_fields__ if name != "source"]  # written if set


def test_unknown_additional_fields_are_ignored() -> None:
    assert manifest.decode(altered(colour="green", nested={"a": [1]})) == make()


def test_lookup_by_name() -> None:
    assert make().archive("etc.tree") == archive()
    assert make().archive("none.img") is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 2),
        ("format", ...),
        ("format", "1"),
        ("datastore", "main"),
        ("datastore", "6C1D0F0E-63A5-4C65-9D6F-0D3B8F1B2A11"),
        ("datastore", "../../etc"),
        ("snapshot", "host/web01"),
        ("snapshot", "host/../2026-11-22T19:00:00Z"),
        ("snapshot", "ns:/host/web01/2026-11-22T19:00:00Z"),
        ("snapshot", ...),
        ("sequence", 0),
        ("sequence", -1),
        ("sequence", 1 << 63),
        ("sequence", 1 << 200),
        ("sequence", True),
        ("sequence", 1.5),
        ("previous", "00"),
        ("previous", DIGEST.upper()),
        ("created", "yesterday"),
        ("created", "2026-11-22T19:00:03+00:00"),
        ("client", "x" * 1025),
        ("client", None),
        ("owner", "root"),
        ("owner", "root@ibs\n"),
        ("owner", "a/b@ibs"),
        ("mode", "open"),
        ("mode", "encrypted"),
        ("key_fingerprint", FINGERPRINT),
        ("key_fingerprint", "aa"),
        ("warnings", -1),
        ("run", -1),
        ("stats", {"files": -1}),
        ("stats", {"files": "many"}),
        ("stats", {str(i): i for i in range(limits.MANIFEST_STATS_MAX + 1)}),
        ("stats", []),
        ("archives", {}),
        ("archives", [1]),
    ],
    ids=lambda value: str(value)[:30],
)
def test_wrong_fields_are_refused(field: str, value: object) -> None:
    with pytest.raises(FormatError, match=r"manifest\.json|format|snapshot|owner|datastore|mode|finger|statistics"):
        manifest.decode(altered(**{field: value}))


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "etc.img"},
        {"name": "../x.tree"},
        {"name": "x"},
        {"kind": "tar"},
        {"records": 4},
        {"records": -1},
        {"index_bytes": 0},
        {"records": limits.INDEX_RECORDS_MAX + 1, "index_bytes": 256 + 40 * (limits.INDEX_RECORDS_MAX + 1)},
        {"plain_bytes": -1},
        {"entries": -1},
        {"index_digest": DIGEST[:-1]},
        {"index_digest": DIGEST[:-1] + "G"},
        {"key_fingerprint": FINGERPRINT},
    ],
    ids=str,
)
def test_wrong_archives_are_refused(changes: dict[str, Any]) -> None:
    fields = msgspec.to_builtins(archive()) | changes
    with pytest.raises(FormatError):
        manifest.decode(altered(archives=[fields]))


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "manifest.json"},
        {"name": "etc.tree.idx"},
        {"name": "../x"},
        {"bytes": -1},
        {"bytes": limits.SNAPSHOT_BLOB_BYTES_MAX + 1},
        {"digest": ""},
    ],
    ids=str,
)
def test_wrong_blobs_are_refused(changes: dict[str, Any]) -> None:
    fields = {"name": "client.log", "bytes": 1, "digest": DIGEST} | changes
    with pytest.raises(FormatError):
        manifest.decode(altered(blobs=[fields]))


def test_an_encrypted_snapshot_has_one_key_in_every_archive() -> None:
    other = hex_fingerprint(bytes(32))
    for wrong in (
        encrypted(archives=(archive(),)),
        encrypted(archives=(archive(key_fingerprint=other),)),
        encrypted(key_fingerprint=""),
    ):
        with pytest.raises(FormatError):
            manifest.encode(wrong)


def test_names_are_listed_once() -> None:
    for wrong in (make(archives=(archive(), archive())), make(blobs=make().blobs * 2)):
        with pytest.raises(FormatError, match="listed twice"):
            manifest.encode(wrong)


def test_counts_are_bounded() -> None:
    many = tuple(archive(name=f"a{i}.tree") for i in range(limits.MANIFEST_ARCHIVES_MAX + 1))
    manifest.encode(make(archives=many[:-1]))
    with pytest.raises(FormatError, match="256 archives"):
        manifest.encode(make(archives=many))
    blobs = tuple(ManifestBlob(name=f"b{i}", bytes=1, digest=DIGEST) for i in range(limits.MANIFEST_BLOBS_MAX + 1))
    with pytest.raises(FormatError, match="256 blobs"):
        manifest.encode(make(blobs=blobs))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b'{"client": "x"}',
        b'{"format":1,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"format":' + b"1" * 100_000 + b"}",
        b" " * (limits.MANIFEST_BYTES_MAX + 1),
    ],
    ids=lambda data: repr(data[:20]),
)
def test_rubbish_is_refused(data: bytes) -> None:
    for decode in (manifest.decode, manifest.decode_signature, manifest.decode_state, manifest.decode_owner):
        with pytest.raises(FormatError) as caught:
            decode(data)
        assert len(caught.value.message) < 500


@pytest.mark.parametrize("data", [b'{"format": 1}', b'{"format": 1, "client": "\xff", "owner": "\xff"}'])
def test_missing_fields_and_broken_text_are_refused(data: bytes) -> None:
    for decode in (manifest.decode, manifest.decode_signature, manifest.decode_owner):
        with pytest.raises(FormatError):
            decode(data)


def test_a_newer_format_says_so() -> None:
    for decode in (manifest.decode, manifest.decode_signature, manifest.decode_state, manifest.decode_owner):
        with pytest.raises(FormatError, match="format 2 is not known") as caught:
            decode(b'{"format": 2, "everything": "different"}')
        assert "upgrade" in caught.value.hint


def test_signatures_hold_for_exactly_the_bytes() -> None:
    data = manifest.encode(make())
    signature = manifest.sign(data, KEYS.signing_seed, "client")
    manifest.verify(data, signature)
    manifest.verify(memoryview(data), signature, signer=manifest.public_key(KEYS.signing_seed))
    assert manifest.signed_bytes(data) == b"ironcore-backup manifest v1\0" + data
    for changed in (data + b"\n", data.replace(b"web01", b"web02"), b""):
        with pytest.raises(SignatureInvalid) as caught:
            manifest.verify(changed, signature)
        assert caught.value.code == "signature-invalid"


def test_a_foreign_signer_is_refused_though_its_signature_holds() -> None:
    data = manifest.encode(make())
    foreign = manifest.sign(data, b"\x01" * 32, "server")
    manifest.verify(data, foreign)
    with pytest.raises(SignatureInvalid, match="trusted is"):
        manifest.verify(data, foreign, signer=manifest.public_key(KEYS.signing_seed))


@pytest.mark.parametrize(
    "changes",
    [
        {"signature": ""},
        {"signature": "!!"},
        {"signature": "é"},
        {"signature": base64.b64encode(bytes(64)).decode()},
        {"signature": base64.b64encode(bytes(63)).decode()},
        {"signer": ""},
        {"signer": "00" * 31},
        {"signer": "00" * 32},
        {"signer": "ff" * 32},
    ],
    ids=str,
)
def test_broken_signatures_are_refused(changes: dict[str, str]) -> None:
    data = manifest.encode(make())
    signature = msgspec.structs.replace(manifest.sign(data, KEYS.signing_seed, "client"), **changes)
    with pytest.raises(SignatureInvalid):
        manifest.verify(data, signature)


def test_signature_files() -> None:
    signature = manifest.sign(b"x", KEYS.signing_seed, "server")
    data = manifest.encode_signature(signature)
    assert manifest.decode_signature(data) == signature
    assert len(data) < limits.SIGNATURE_BYTES_MAX
    fields = json.loads(data)
    for wrong in (
        {"by": "somebody"},
        {"signer": "00"},
        {"signature": "AAAA"},
        {"signature": "*" * 88},
        {"signature": "é" * 88},
    ):
        with pytest.raises(FormatError):
            manifest.decode_signature(json.dumps(fields | wrong).encode())
    with pytest.raises(FormatError):
        manifest.encode_signature(Signature(signer="", by="client", signature=""))


def test_states() -> None:
    state = SnapshotState(
        notes="before the upgrade\nkeep",
        protected=True,
        verify=VerifyState(result="OK", time="2026-11-23T04:30:00Z", upid="UPID:x", chunks=12),
    )
    assert manifest.decode_state(manifest.encode_state(state)) == state
    assert manifest.decode_state(b'{"format":1}') == SnapshotState()
    assert manifest.decode_state(manifest.encode_state(SnapshotState())).verify is None
    with pytest.raises(FormatError):
        manifest.encode_state(SnapshotState(notes="x" * limits.STATE_BYTES_MAX))
    with pytest.raises(FormatError):
        manifest.encode_state(SnapshotState(notes="\ud800"))


def test_owners() -> None:
    owner = GroupOwner(owner="web01@ibs!backup")
    assert manifest.decode_owner(manifest.encode_owner(owner)) == owner
    with pytest.raises(FormatError, match="auth-id"):
        manifest.encode_owner(GroupOwner(owner="nobody"))
