from __future__ import annotations

import msgspec
import pytest

from ibs.wire.sync import PullStart


def test_bounds() -> None:
    body = msgspec.json.decode(b'{"remote":"b","source":"main"}', type=PullStart)
    assert (body.newest, body.groups) == (None, [])
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"remote":"b","source":"main","newest":-1}', type=PullStart)
