from __future__ import annotations

import msgspec

from ibs.core import publickey
from ibs.core.keys import DataKeys
from ibs.wire.keys import KeyPolicy, KeyRegister


def test_bodies_come_back() -> None:
    body = KeyRegister(key=publickey.describe(DataKeys.from_root(bytes(32))), datastore="main")
    assert msgspec.json.decode(msgspec.json.encode(body), type=KeyRegister) == body
    assert msgspec.json.decode(b'{"datastore":"main"}', type=KeyPolicy).required
