"""The audit log: look, check, take away. Nothing here changes it."""

from __future__ import annotations

from ibs.control.routing import OCTETS, Call, Octets, Query, Routes, needs
from ibs.core import limits
from ibs.core.access import Privilege
from ibs.core.audit import Outcome
from ibs.errors import UsageError
from ibs.wire.audit import AuditCheck, AuditView

routes = Routes("audit")
_AUDIT = needs(Privilege.SYSTEM_AUDIT, "/system")


@routes.route(
    "GET",
    "/audit/rows",
    access=_AUDIT,
    answer=list[AuditView],
    query=[
        Query("who", doc="part of the identity"),
        Query("since", doc="not before this time, RFC 3339 UTC"),
        Query("until", doc="before this time"),
        Query("action", doc="part of the action's name"),
        Query("target", doc="part of what it was done to"),
        Query("outcome", doc="ok, refused, failed or cut off"),
        Query("limit", "integer", 50, doc="at most so many, newest first"),
    ],
)
async def audit_list(call: Call) -> list[AuditView]:
    """List changes and refusals, newest first."""
    wanted = {name: str(value) for name, value in call.query.items() if name != "limit"}
    if wanted["outcome"] and wanted["outcome"] not in {one.value for one in Outcome}:
        raise UsageError(f"outcome {wanted['outcome'][:64]!r} is not known", hint=f"use {', '.join(Outcome)}")
    return await call.context.audit.find(wanted, min(call.query["limit"], limits.LIST_ROWS_MAX))


@routes.route("GET", "/audit/rows/{n}", access=_AUDIT, answer=AuditView)
async def audit_show(call: Call) -> AuditView:
    """Show one row of the audit log."""
    text = call.path["n"]
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise UsageError(f"{text[:64]!r} is no row number", hint="see: ironcore-backup audit list")
    return await call.context.audit.show(int(text))


@routes.route("GET", "/audit/check", access=_AUDIT, answer=AuditCheck)
async def audit_check(call: Call) -> AuditCheck:
    """Follow the audit log's chain from its first row to its head."""
    return await call.context.audit.verify()


@routes.route("GET", "/audit/export", access=_AUDIT, answer=OCTETS)
async def audit_export(call: Call) -> Octets:
    """Stream the audit log as it is stored, one JSON object a line."""
    return Octets(call.context.audit.export())
