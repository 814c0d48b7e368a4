"""Bodies of realms: a secret goes in and has no place to come out."""

from __future__ import annotations

import msgspec
import pytest

from ibs.wire.realms import RealmSet, RealmView


def test_what_is_not_given_is_none() -> None:
    body = msgspec.json.decode(b'{"name":"corp","uri":"ldaps://x"}', type=RealmSet)
    assert body == RealmSet(name="corp", uri="ldaps://x")
    assert (body.secret, body.template, body.ca) == (None, None, None)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"uri":"ldaps://x"}', type=RealmSet)


def test_a_view_has_no_secret() -> None:
    assert not {"secret", "bind_password", "sealed"} & set(RealmView.__struct_fields__)
