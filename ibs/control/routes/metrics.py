"""Metrics for Prometheus. What is told, and how dear it is, is the affair of `services.metrics`."""

from __future__ import annotations

from ibs.control.routing import TEXT, Call, Octets, Routes, needs
from ibs.core.access import Privilege
from ibs.services.metrics import CONTENT_TYPE

routes = Routes("metrics")


@routes.route("GET", "/metrics", access=needs(Privilege.SYSTEM_AUDIT, "/system"), answer=TEXT, bare=True)
async def metrics(call: Call) -> Octets:
    """Show all figures of the server in the text format of Prometheus; also served as plain /metrics."""
    return Octets(await call.context.metrics.text(), CONTENT_TYPE)
