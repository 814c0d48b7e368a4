from __future__ import annotations

import msgspec

from ibs.wire.remotes import RemoteSet, RemoteView


def test_what_is_left_out_stays_and_no_secret_comes_back() -> None:
    body = msgspec.json.decode(b'{"name":"b","fingerprint":"aa"}', type=RemoteSet)
    assert (body.host, body.secret, body.fingerprint) == (None, None, "aa")
    assert "secret" not in RemoteView.__struct_fields__
