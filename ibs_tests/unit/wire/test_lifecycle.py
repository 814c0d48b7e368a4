"""Bodies of the lifecycle routes: what is left out has a meaning, what is out of range is refused."""

from __future__ import annotations

import msgspec
import pytest

from ibs.wire.lifecycle import PolicyBody, PruneRequest, RetentionSet, SnapshotChange


def test_what_is_left_out_stays_as_it_is() -> None:
    change = msgspec.json.decode(b'{"snapshot":"host/a"}', type=SnapshotChange)
    assert (change.notes, change.protected) == (None, None)
    request = msgspec.json.decode(b"{}", type=PruneRequest)
    assert (request.policy, request.override, request.namespace) == (None, False, "")


@pytest.mark.parametrize("body", [b'{"keep_last":-1}', b'{"keep_daily":100001}', b'{"keep_weekly":1.5}'])
def test_counts_out_of_range_are_refused(body: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(body, type=PolicyBody)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"policy":' + body + b"}", type=RetentionSet)
