"""Bodies of the support routes."""

from __future__ import annotations

from ibs.wire.common import Wire


class BundleRequest(Wire, frozen=True, kw_only=True):
    """`tasks` are UPIDs whose logs shall be in the bundle besides those of recent failures."""

    tasks: list[str] = []
    redact: bool = True
