from __future__ import annotations

import msgspec

from ibs.wire.support import BundleRequest


def test_names_are_hidden_unless_asked_for() -> None:
    assert msgspec.json.decode(b"{}", type=BundleRequest) == BundleRequest(tasks=[], redact=True)
