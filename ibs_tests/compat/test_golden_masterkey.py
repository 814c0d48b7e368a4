"""Version 1 of master keys and what is wrapped under them, for ever: read by ours and by formats.md §1 alone.

These files are never regenerated: a master key lies in its safe until the day everything else is lost.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl.pwhash import argon2id

from ibs.core import masterkey
from ibs.security import keyfile
from ibs.security import masterkey as masters

GOLDEN = Path(__file__).parent / "golden"
ROOT = bytes(range(32))
PASSPHRASE = "correct horse b\N{LATIN SMALL LETTER A WITH DIAERESIS}ttery"
MASTER, PUBLIC, WRAPPED, KEYFILE = (
    (GOLDEN / name).read_bytes()
    for name in ("master-key.json", "master-public.json", "wrapped.key", "keyfile-master.json")
)


def test_ours_reads_them() -> None:
    master, public = masters.decode(MASTER), masterkey.decode_public(PUBLIC)
    assert masters.public_half(master) == public
    wrapped = masterkey.decode_wrapped(WRAPPED)
    assert masters.unwrap(master, lambda: PASSPHRASE, wrapped).root == ROOT
    opened = keyfile.open_key(keyfile.decode(KEYFILE), lambda: PASSPHRASE)
    assert (opened.keys.root, opened.master) == (ROOT, public)
    assert masterkey.encode(public) == PUBLIC
    assert masterkey.encode(wrapped) == WRAPPED
    assert masters.encode(master) == MASTER


def opened(file: dict[str, Any], sealed: str, parts: list[object]) -> bytes:
    how = file["derivation"]
    parts = [*parts, how["name"], how["salt"], how["operations"], how["memory_bytes"]]
    if "master" in file:
        parts += [file["master"][name] for name in ("fingerprint", "public", "comment")]
    salt = base64.b64decode(how["salt"])
    key = argon2id.kdf(32, PASSPHRASE.encode(), salt, opslimit=how["operations"], memlimit=how["memory_bytes"])
    box = base64.b64decode(sealed)
    return AESGCM(key).decrypt(box[:12], box[12:], "\n".join(map(str, parts)).encode())


def test_the_document_alone_opens_a_wrapped_key() -> None:
    master, wrapped = json.loads(MASTER), json.loads(WRAPPED)
    stated = [master[name] for name in ("type", "format", "fingerprint", "comment", "created", "public")]
    private = serialization.load_der_private_key(opened(master, master["sealed"], stated), None)
    assert isinstance(private, rsa.RSAPrivateKey)
    assert private.key_size == 4096
    way = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
    assert private.decrypt(base64.b64decode(wrapped["wrapped"]), way) == ROOT
    fingerprint = hashlib.sha256(base64.b64decode(master["public"])).digest().hex(":")
    assert master["fingerprint"] == wrapped["master"] == json.loads(PUBLIC)["fingerprint"] == fingerprint


def test_the_document_alone_opens_a_keyfile_that_names_its_master() -> None:
    file = json.loads(KEYFILE)
    stated = [file[name] for name in ("type", "format", "fingerprint", "mode", "comment", "created")]
    assert opened(file, file["root"], stated) == ROOT
    assert file["master"] == json.loads(PUBLIC)
