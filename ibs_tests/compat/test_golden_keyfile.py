"""Version 1 of keyfiles and public halves, for ever: read by our code and by a second reader made from formats.md §1.

These files are never regenerated: whoever finds a keyfile in a safe after years has to get in.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl.pwhash import argon2id

from ibs.core import publickey
from ibs.core.ids import hex_fingerprint
from ibs.core.keys import DataKeys
from ibs.errors import FormatError, RefusedError
from ibs.security import keyfile

GOLDEN = Path(__file__).parent / "golden"
ROOT = bytes(range(32))
SEALED = (GOLDEN / "keyfile-sealed.json").read_bytes()
OPEN = (GOLDEN / "keyfile-open.json").read_bytes()
PUBLIC = (GOLDEN / "public-key.json").read_bytes()
PASSPHRASE = "correct horse b\N{LATIN SMALL LETTER A WITH DIAERESIS}ttery"
COMMENT = "web01 \N{EN DASH} Frankfurt"


def nobody() -> str:
    raise AssertionError("a passphrase was asked for")


def test_ours_reads_them() -> None:
    sealed = keyfile.open_key(keyfile.decode(SEALED), lambda: PASSPHRASE)
    assert (sealed.keys.root, sealed.mode, sealed.comment, sealed.has_passphrase) == (ROOT, "encrypt", COMMENT, True)
    unsealed = keyfile.open_key(keyfile.decode(OPEN), nobody)
    assert (unsealed.keys.root, unsealed.mode, unsealed.comment, unsealed.has_passphrase) == (
        ROOT,
        "sign-only",
        "",
        False,
    )
    public = publickey.decode(PUBLIC)
    assert (public.fingerprint, public.comment) == (hex_fingerprint(sealed.keys.fingerprint), COMMENT)
    assert publickey.encode(publickey.describe(sealed.keys, COMMENT)) == PUBLIC


def fingerprint_of(root: bytes) -> str:
    derived = blake3(root, derive_key_context="ironcore-backup 2026 v1 fingerprint").digest()
    return hashlib.sha256(derived).digest().hex(":")


def test_the_document_alone_reads_the_sealed_one() -> None:
    file = json.loads(SEALED)
    how = file["derivation"]
    key = argon2id.kdf(
        32,
        PASSPHRASE.encode(),
        base64.b64decode(how["salt"]),
        opslimit=how["operations"],
        memlimit=how["memory_bytes"],
    )
    stated = [file[name] for name in ("type", "format", "fingerprint", "mode", "comment", "created")]
    stated += [how[name] for name in ("name", "salt", "operations", "memory_bytes")]
    box = base64.b64decode(file["root"])
    root = AESGCM(key).decrypt(box[:12], box[12:], "\n".join(map(str, stated)).encode())
    assert root == ROOT
    assert file["fingerprint"] == fingerprint_of(root)


def test_the_document_alone_reads_the_open_one() -> None:
    file = json.loads(OPEN)
    assert file["derivation"] is None
    assert base64.b64decode(file["root"]) == ROOT
    assert file["fingerprint"] == fingerprint_of(ROOT)


def test_the_document_alone_checks_the_public_half() -> None:
    file = json.loads(PUBLIC)
    signed = "\n".join(("ironcore-backup public key 1", file["fingerprint"], file["signer"], file["comment"]))
    verifier = Ed25519PublicKey.from_public_bytes(bytes.fromhex(file["signer"]))
    verifier.verify(base64.b64decode(file["signature"]), signed.encode())
    assert file["fingerprint"] == fingerprint_of(ROOT)


@pytest.mark.parametrize("name", ["fingerprint", "mode", "comment", "created", "derivation"])
def test_nothing_in_it_can_be_changed_without_the_passphrase(name: str) -> None:
    file = json.loads(SEALED)
    if name == "derivation":
        file["derivation"]["operations"] += 1
    else:
        other = {"fingerprint": hex_fingerprint(DataKeys.from_root(bytes(32)).fingerprint), "mode": "sign-only"}
        file[name] = other.get(name, "other")
    with pytest.raises((RefusedError, FormatError)):
        keyfile.open_key(keyfile.decode(json.dumps(file).encode()), lambda: PASSPHRASE)
