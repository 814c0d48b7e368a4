"""Manifests under fire: damaged or invented JSON is refused with FormatError, or is a manifest in every respect."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ibs.core import limits, manifest
from ibs.core.ids import hex_fingerprint
from ibs.core.manifest import Manifest, ManifestArchive, ManifestBlob, Signature, SnapshotState, VerifyState
from ibs.errors import FormatError, SignatureInvalid
from ibs_tests.support.mutations import Mutation, mutations

COUNT = st.integers(0, 2**63 - 1)
DIGEST = st.binary(min_size=32, max_size=32).map(bytes.hex)
FINGERPRINT = st.binary(min_size=32, max_size=32).map(hex_fingerprint)
LINE = st.text(max_size=50)
STEM = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    mode = draw(st.sampled_from(["plain", "signed", "encrypted"]))
    fingerprint = "" if mode == "plain" else draw(FINGERPRINT)
    archives = []
    for stem in draw(st.lists(STEM, max_size=3, unique=True)):
        kind = draw(st.sampled_from(["tree", "img"]))
        records = draw(st.integers(0, limits.INDEX_RECORDS_MAX))
        archives.append(
            ManifestArchive(
                name=f"{stem}.{kind}",
                kind=kind,
                plain_bytes=draw(COUNT),
                records=records,
                index_bytes=256 + records * {"tree": 40, "img": 32}[kind],
                index_digest=draw(DIGEST),
                entries=draw(COUNT),
                key_fingerprint=fingerprint if mode == "encrypted" else "",
            )
        )
    return Manifest(
        datastore=str(draw(st.uuids())),
        snapshot=draw(st.sampled_from(["host/a/2026-11-22T19:00:00Z", "ns:host/vm/vm/100/2026-11-22T19:00:00Z"])),
        sequence=draw(st.integers(1, 2**63 - 1)),
        previous=draw(st.one_of(st.just(""), DIGEST)),
        created="2026-11-22T19:00:00Z",
        client=draw(LINE),
        owner=draw(st.sampled_from(["root@ibs", "web01@ldap!backup"])),
        mode=mode,
        key_fingerprint=fingerprint,
        archives=tuple(archives),
        blobs=tuple(
            ManifestBlob(name=name, bytes=draw(st.integers(0, limits.SNAPSHOT_BLOB_BYTES_MAX)), digest=draw(DIGEST))
            for name in draw(st.lists(st.sampled_from(["client.log", "config", "x"]), unique=True))
        ),
        stats=draw(st.dictionaries(LINE, COUNT, max_size=5)),
        warnings=draw(COUNT),
        run=draw(COUNT),
    )


SAMPLE = Manifest(
    datastore="6c1d0f0e-63a5-4c65-9d6f-0d3b8f1b2a11",
    snapshot="host/a/2026-11-22T19:00:00Z",
    sequence=1,
    created="2026-11-22T19:00:00Z",
    client="a",
    owner="root@ibs",
    mode="plain",
    archives=(
        ManifestArchive(
            name="e.tree", kind="tree", plain_bytes=1, records=1, index_bytes=296, index_digest="0f" * 32, entries=1
        ),
    ),
    blobs=(ManifestBlob(name="client.log", bytes=3, digest="0f" * 32),),
    stats={"files": 1},
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), DIGEST),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=10), inner, max_size=4)),
    max_leaves=10,
)


def read(data: bytes) -> Manifest | None:
    """Decode; whatever passes must also be writable again, and come back equal."""
    try:
        found = manifest.decode(data)
    except FormatError:
        return None
    assert manifest.decode(manifest.encode(found)) == found
    return found


@given(made=manifests())
def test_round_trip(made: Manifest) -> None:
    data = manifest.encode(made)
    assert manifest.decode(data) == made
    signature = manifest.sign(data, b"\x01" * 32, "client")
    manifest.verify(data, manifest.decode_signature(manifest.encode_signature(signature)))


@given(mutate=mutations())
@settings(max_examples=300)
def test_damaged_bytes(mutate: Mutation) -> None:
    read(mutate(manifest.encode(SAMPLE)))


@given(data=st.data())
@settings(max_examples=300)
def test_foreign_values_in_any_place(data: st.DataObject) -> None:
    fields: Any = msgspec.to_builtins(SAMPLE)
    place: Any = data.draw(st.sampled_from([fields, fields["archives"][0], fields["blobs"][0], fields["stats"]]))
    key = data.draw(st.sampled_from(sorted(place)))
    place[key] = data.draw(st.one_of(JSON, st.sampled_from([-1, 2**63, 2**64, 1.5, "../x", "", None, [], {}])))
    found = read(json.dumps(fields).encode("utf-8", "surrogatepass"))
    if found is not None:
        assert len(found.archives) <= limits.MANIFEST_ARCHIVES_MAX
        assert all(archive.records >= 0 and ".." not in archive.name[:2] for archive in found.archives)


@given(data=st.binary(max_size=300))
@example(b'{"format":1,"x":' + b'{"a":' * 50_000)
@example(b'{"format":1,"archives":' + b"[" * 50_000)
def test_rubbish(data: bytes) -> None:
    for text in (data, b'{"format":1,' + data):
        assert read(text) is None
        for decode in (manifest.decode_signature, manifest.decode_state, manifest.decode_owner):
            with contextlib.suppress(FormatError):
                decode(text)


@given(value=JSON)
def test_any_json(value: Any) -> None:
    text = json.dumps(value).encode("utf-8", "surrogatepass")
    assert read(text) is None
    for decode in (manifest.decode_signature, manifest.decode_state, manifest.decode_owner):
        with contextlib.suppress(FormatError):
            decode(text)


@given(data=st.binary(max_size=200), mutate=mutations())
def test_a_signature_holds_for_its_bytes_only(data: bytes, mutate: Mutation) -> None:
    signature = manifest.sign(data, b"\x01" * 32, "client")
    changed = mutate(data)
    if changed == data:
        return
    try:
        manifest.verify(changed, signature)
    except SignatureInvalid:
        return
    raise AssertionError("a signature held for other bytes")


@given(signer=st.one_of(LINE, DIGEST), text=LINE, trusted=st.one_of(st.none(), st.binary(min_size=32, max_size=32)))
def test_invented_signatures(signer: str, text: str, trusted: bytes | None) -> None:
    try:
        manifest.verify(b"x", Signature(signer=signer, by="client", signature=text), signer=trusted)
    except SignatureInvalid:
        return
    raise AssertionError("an invented signature held")


@given(notes=st.text(max_size=300), protected=st.booleans(), chunks=COUNT, line=LINE)
def test_states_round_trip(notes: str, protected: bool, chunks: int, line: str) -> None:
    state = SnapshotState(
        notes=notes, protected=protected, verify=VerifyState(result="OK", time=line, chunks=chunks, first_failure=notes)
    )
    assert manifest.decode_state(manifest.encode_state(state)) == state
