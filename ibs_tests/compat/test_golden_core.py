"""Version 1 of the core formats, for ever: bytes written once, read by our code and by a second reader made from the
document (contrib/docs/formats.md) alone. These files are never regenerated; a test that fails here has
found a broken promise.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pyfastcdc import FastCDC

from ibs.core import index, manifest
from ibs.core.blob import BlobDecoder, BlobEncoder, parse_header
from ibs.core.chunker import Chunker
from ibs.core.ids import PLAIN_DOMAIN, Address, hex_fingerprint
from ibs.core.keys import DataKeys
from ibs.errors import FormatError, SignatureInvalid

GOLDEN = Path(__file__).parent / "golden"
KEYS = DataKeys.from_root(bytes(range(32)))
TEXT = b"Ironcore golden blob. " * 40
NOISE = blake3(b"ironcore-backup golden noise").digest(length=300)
NONCE = bytes(range(12))
IDS = [blake3(b"golden id %d" % i).digest() for i in range(4)]
LOG = b"golden client log\n"


def read(name: str) -> bytes:
    return (GOLDEN / name).read_bytes()


def number(data: bytes) -> int:
    return int.from_bytes(data, "little")


# --- keys, §1 ---


def test_keys() -> None:
    assert json.loads(read("keys.json")) == {
        "root": KEYS.root.hex(),
        "id_key": KEYS.id_key.hex(),
        "chunk_key_key": KEYS.chunk_key_key.hex(),
        "chunker_seed": KEYS.chunker_seed,
        "signing_seed": KEYS.signing_seed.hex(),
        "signer": manifest.public_key(KEYS.signing_seed).hex(),
        "fingerprint": hex_fingerprint(KEYS.fingerprint),
    }


# --- blobs, §2 ---


def read_blob_by_the_document(raw: bytes, root: bytes) -> bytes:
    """A second reader, from the table of §2."""
    assert raw[0:4] == b"IBSB"
    assert raw[4] == 1
    flags, plain_length, payload_length = raw[5], number(raw[8:12]), number(raw[12:16])
    domain, chunk, nonce, payload = raw[16:48], raw[48:80], raw[80:92], raw[128:]
    assert raw[6:8] == bytes(2)
    assert raw[92:96] == bytes(4)
    assert len(payload) == payload_length
    assert raw[96:128] == blake3(raw[0:96] + payload).digest()
    id_key: dict[str, Any] = {}
    if flags & 2:
        derived = {
            use: blake3(root, derive_key_context=f"ironcore-backup 2026 v1 {use}").digest()
            for use in ("chunk id", "chunk key", "fingerprint")
        }
        assert domain == hashlib.sha256(derived["fingerprint"]).digest()
        key = blake3(chunk, key=derived["chunk key"]).digest()
        payload = AESGCM(key).decrypt(nonce, payload, raw[0:96])
        id_key = {"key": derived["chunk id"]}
    else:
        assert domain == bytes(32)
        assert nonce == bytes(12)
    if flags & 1:
        assert zstandard.frame_content_size(payload) == plain_length
        payload = zstandard.ZstdDecompressor().decompress(payload)
    assert len(payload) == plain_length
    assert chunk == blake3(payload, **id_key).digest()
    return payload


@pytest.mark.parametrize(
    ("name", "flags", "keys", "content"),
    [("plain", 0, None, NOISE), ("zstd", 1, None, TEXT), ("encrypted", 2, KEYS, NOISE),
     ("encrypted-zstd", 3, KEYS, TEXT)],
)  # fmt: skip
def test_blobs_are_read(name: str, flags: int, keys: DataKeys | None, content: bytes) -> None:
    raw = read(f"{name}.blob")
    assert read_blob_by_the_document(raw, KEYS.root) == content
    header = parse_header(raw)
    assert header.flags == flags
    want = Address(keys.fingerprint if keys else PLAIN_DOMAIN, BlobEncoder(keys=keys).identify(content))
    assert BlobDecoder(keys=keys).decode(raw, want=want) == content


@pytest.mark.parametrize(("name", "keys"), [("plain", None), ("encrypted", KEYS)])
def test_blobs_are_written_to_the_byte(name: str, keys: DataKeys | None) -> None:
    """Compressed ones are not compared: zstd may pack better one day, and every reader unpacks it all the same."""
    encoder = BlobEncoder(keys=keys, entropy=lambda count: NONCE[:count])
    assert encoder.encode(NOISE, encoder.identify(NOISE)) == read(f"{name}.blob")


@pytest.mark.parametrize("keys", [None, KEYS], ids=["plain", "encrypted"])
def test_what_we_write_is_read_by_the_document(keys: DataKeys | None) -> None:
    encoder = BlobEncoder(keys=keys)
    for content in (b"x", TEXT, NOISE, bytes(4 << 20)):
        raw = bytes(encoder.encode(content, encoder.identify(content)))
        assert read_blob_by_the_document(raw, KEYS.root) == content


# --- index files, §3 ---


def test_tree_index() -> None:
    raw = read("tree.idx")
    header = index.parse_header(raw, file_bytes=len(raw))
    records = raw[256:]
    index.check_records(header, records)
    assert header == index.IndexHeader(
        index.TREE, 40, 4, 1310720, 0, 1, KEYS.fingerprint, IDS[3], blake3(records).digest()
    )
    assert list(index.iter_tree_records(records)) == [
        (IDS[0], 1048576, index.KIND_DATA),
        (IDS[1], 262144, index.KIND_DATA),
        (IDS[2], 65536, index.KIND_METADATA),
        (IDS[3], 300, index.KIND_METADATA),
    ]
    written = b"".join(index.tree_record(*row) for row in index.iter_tree_records(records))
    assert index.encode_header(header) + written == raw


def test_image_index() -> None:
    raw = read("image.idx")
    header = index.parse_header(raw, file_bytes=len(raw))
    records = raw[256:]
    index.check_records(header, records)
    assert header == index.IndexHeader(
        index.IMAGE, 32, 3, 8389120, 4194304, 0, bytes(32), bytes(32), blake3(records).digest()
    )
    expected = np.frombuffer(IDS[0] + bytes(32) + IDS[1], dtype=np.uint8).reshape(3, 32)
    assert np.array_equal(index.record_ids(records, 32), expected)
    assert index.encode_header(header) + records == raw


@pytest.mark.parametrize(("name", "kind", "width"), [("tree.idx", 1, 40), ("image.idx", 2, 32)])
def test_indexes_by_the_document(name: str, kind: int, width: int) -> None:
    raw = read(name)
    assert raw[0:4] == b"IBSI"
    assert number(raw[4:6]) == 1
    assert (raw[6], raw[7]) == (kind, width)
    assert number(raw[8:16]) == (len(raw) - 256) // width
    assert number(raw[16:24]) == (1310720 if kind == 1 else 8389120)
    assert number(raw[24:28]) == (0 if kind == 1 else 4 << 20)
    assert number(raw[28:32]) == (1 if kind == 1 else 0)
    assert raw[32:64] == (KEYS.fingerprint if kind == 1 else bytes(32))
    assert raw[64:96] == (IDS[3] if kind == 1 else bytes(32))
    assert raw[96:128] == blake3(raw[256:]).digest()
    assert raw[128:224] == bytes(96)
    assert raw[224:256] == blake3(raw[:224]).digest()
    if kind == 1:
        assert raw[256:288] == IDS[0]
        assert raw[288:296] == (1 << 20).to_bytes(4, "little") + b"\0\0\0\0"
        assert raw[-4:] == b"\1\0\0\0"


# --- snapshot folder, §5 ---


def test_manifest() -> None:
    raw = read("manifest.json")
    found = manifest.decode(raw)
    assert manifest.encode(found) == raw
    tree, fingerprint = read("tree.idx"), hex_fingerprint(KEYS.fingerprint)
    assert json.loads(raw) == {
        "format": 1,
        "datastore": "6c1d0f0e-63a5-4c65-9d6f-0d3b8f1b2a11",
        "snapshot": "ns:a/b/host/web01/2026-11-22T19:00:00Z",
        "sequence": 7,
        "previous": blake3(b"golden previous").hexdigest(),
        "created": "2026-11-22T19:00:42Z",
        "client": "web01 ironcore-backup-client 0.1.0",
        "owner": "web01@ibs!backup",
        "mode": "encrypted",
        "key_fingerprint": fingerprint,
        "archives": [
            {
                "name": "etc.tree",
                "kind": "tree",
                "plain_bytes": 1310720,
                "records": 4,
                "index_bytes": len(tree),
                "index_digest": blake3(tree).hexdigest(),
                "entries": 2,
                "key_fingerprint": fingerprint,
            }
        ],
        "blobs": [{"name": "client.log", "bytes": len(LOG), "digest": blake3(LOG).hexdigest()}],
        "stats": {"bytes_read": 1310720, "files": 2},
        "warnings": 1,
        "run": 3,
    }


def test_signature() -> None:
    raw, signature = read("manifest.json"), manifest.decode_signature(read("manifest.sig"))
    manifest.verify(raw, signature, signer=manifest.public_key(KEYS.signing_seed))
    assert manifest.sign(raw, KEYS.signing_seed, "client") == signature  # Ed25519 is deterministic
    assert manifest.encode_signature(signature) == read("manifest.sig")
    fields = json.loads(read("manifest.sig"))
    assert (fields["format"], fields["by"]) == (1, "client")
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(fields["signer"]))
    public.verify(base64.b64decode(fields["signature"]), b"ironcore-backup manifest v1\0" + raw)
    with pytest.raises(SignatureInvalid):
        manifest.verify(raw + b"\n", signature)


def test_state_and_owner() -> None:
    state = manifest.decode_state(read("state.json"))
    assert manifest.encode_state(state) == read("state.json")
    assert state.verify is not None
    assert (state.notes, state.protected, state.verify.result) == ("before the upgrade", True, "OK")
    assert state.verify.chunks == 4
    owner = manifest.decode_owner(read("owner.json"))
    assert owner.owner == "web01@ibs!backup"
    assert manifest.encode_owner(owner) == read("owner.json")


# --- cuts, §4.4 ---


def cut_stream() -> bytes:
    """16 MiB of noise, 9 MiB of zeros, 8 MiB of noise."""
    noise = blake3(b"ironcore-backup golden cut stream").digest(length=24 << 20)
    return noise[: 16 << 20] + bytes(9 << 20) + noise[16 << 20 :]


@pytest.mark.parametrize(("name", "seed"), [("seed 0", 0), ("seed of keys.json", KEYS.chunker_seed)])
def test_cuts(name: str, seed: int) -> None:
    golden = json.loads(read("cuts.json"))[name]
    assert Chunker(seed).cut(cut_stream(), final=True) == golden
    assert 4 << 20 in golden


def test_cuts_of_the_reference_vector() -> None:
    """The chunker's own parameters scaled down to 64 KiB over a published stream."""
    stream = b"".join(hashlib.blake2b(i.to_bytes(4, "big")).digest() for i in range(32768))
    lengths = [chunk.length for chunk in FastCDC(65536, normalized_chunking=1).cut_buf(stream)]
    assert lengths[:5] == [36365, 74708, 82983, 108127, 33964]
    assert lengths == json.loads(read("cuts.json"))["reference, 64 KiB"]


# --- and all of them, cut short ---


@pytest.mark.parametrize("name", ["plain.blob", "encrypted-zstd.blob", "tree.idx", "image.idx", "manifest.json"])
def test_cut_short_at_every_byte(name: str) -> None:
    raw = read(name)
    readers: dict[str, Callable[[bytes], object]] = {
        "blob": lambda data: BlobDecoder(keys=KEYS).decode(data, want=parse_header(raw).address),
        "idx": lambda data: index.parse_header(data, file_bytes=len(data)),
        "json": manifest.decode,
    }
    reader = readers[name.rpartition(".")[2]]
    reader(raw)
    for length in range(len(raw)):
        with pytest.raises(FormatError):
            reader(raw[:length])
