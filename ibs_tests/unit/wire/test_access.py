"""Bodies of roles, groups and explanations."""

from __future__ import annotations

import msgspec
import pytest

from ibs.wire.access import RoleSet, UserGroupSet


def test_bodies_are_whole() -> None:
    assert msgspec.json.decode(b'{"name":"ops"}', type=UserGroupSet).members == []
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"name":"X"}', type=RoleSet)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"name":"X","privileges":"Datastore.Read"}', type=RoleSet)
