"""The few chunks of which all simulated backups are made, so that sessions meet in them all the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

from blake3 import blake3

from ibs.core.blob import BlobDecoder, BlobEncoder
from ibs.core.ids import Address, hex_fingerprint
from ibs.core.keys import DataKeys
from ibs.core.manifest import public_key
from ibs.errors import IbsError
from ibs.ports.catalog import RegisteredKey
from ibs.storage.local.layout import chunk_name

CHUNKS = 24
KEYS = DataKeys.from_root(bytes(range(32)))
REGISTERED = RegisteredKey(hex_fingerprint(KEYS.fingerprint), public_key(KEYS.signing_seed))


@dataclass(frozen=True)
class Letter:
    """One chunk in one domain. `blobs` are valid forms of it; the second, where there is one, is not compressed."""

    number: int
    plain: bytes
    address: Address
    name: str
    blobs: tuple[bytes, ...]


class Register:
    """The key registry: one key, which may be used and need not."""

    async def find(self, store: str, namespace: str, fingerprint: str) -> RegisteredKey | None:
        return REGISTERED if fingerprint == REGISTERED.fingerprint else None

    async def encryption_required(self, store: str, namespace: str) -> bool:
        return False


def _plain_bytes(number: int) -> bytes:
    seed = blake3(number.to_bytes(8, "big"))
    size = 24 + number % 7 * 45
    return seed.digest(length=size) if number % 3 else seed.digest(length=8) * (size // 8)


def _raw_form(blob: bytes, plain: bytes, address: Address) -> bytes:
    """The same chunk as another writer might have written it: not compressed."""
    raw = bytearray(BlobEncoder().encode(blake3(plain).digest(length=len(plain)), address.id))
    raw[48:80] = address.id
    raw[128:] = plain
    raw[96:128] = blake3(bytes(raw[:96]) + plain).digest()
    try:
        BlobDecoder().decode(bytes(raw), want=address)
    except IbsError:
        return blob
    return bytes(raw)


@cache
def letters(*, encrypted: bool) -> Sequence[Letter]:
    """The alphabet of one domain."""
    keys = KEYS if encrypted else None
    encoder = BlobEncoder(keys=keys, entropy=Random(1).randbytes)
    found = []
    for number in range(CHUNKS):
        plain = _plain_bytes(number)
        address = Address(encoder.domain, encoder.identify(plain))
        blob = bytes(encoder.encode(plain, address.id))
        blobs = [blob]
        if not encrypted and (raw := _raw_form(blob, plain, address)) != blob:
            blobs.append(raw)
        found.append(Letter(number, plain, address, chunk_name(address), tuple(blobs)))
    return found


@cache
def by_name() -> dict[str, Letter]:
    """Every letter of both alphabets by the name of its file."""
    return {letter.name: letter for encrypted in (False, True) for letter in letters(encrypted=encrypted)}


@cache
def by_id(*, encrypted: bool) -> dict[bytes, Letter]:
    """One alphabet by id."""
    return {letter.address.id: letter for letter in letters(encrypted=encrypted)}
