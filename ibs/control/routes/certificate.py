"""The server's certificate: shown and replaced, at once or on a day. What happens is in `services.certificates`."""

from __future__ import annotations

import msgspec

from ibs.control.routing import Call, Routes, needs
from ibs.core.access import Privilege
from ibs.wire.access import CertificateRenew, CertificateReplace, CertificateView

routes = Routes("system")
_CHANGE = needs(Privilege.SYSTEM_MODIFY, "/system")


@routes.route("GET", "/certificate", access=needs(Privilege.SYSTEM_AUDIT, "/system"), answer=CertificateView)
async def certificate_show(call: Call) -> CertificateView:
    """Show the server's certificate: fingerprint, names, when it expires."""
    return _with_hosts(call, call.context.certificates.show())


@routes.route("POST", "/certificate", access=_CHANGE, body=CertificateReplace, answer=CertificateView)
async def certificate_replace(call: Call) -> CertificateView:
    """Serve another certificate from now on; connections that are there stay."""
    body = call.body
    return _with_hosts(call, await call.context.certificates.replace(call.principal.auth_id, body.pem, body.seconds))


@routes.route("POST", "/certificate/renew", access=_CHANGE, body=CertificateRenew, answer=CertificateView)
async def certificate_renew(call: Call) -> CertificateView:
    """Make a new self-signed certificate with a new key, and serve it at once or later."""
    return _with_hosts(call, await call.context.certificates.renew(call.principal.auth_id, call.body.seconds))


@routes.route("DELETE", "/certificate/next", access=_CHANGE)
async def certificate_withdraw(call: Call) -> None:
    """Serve the present certificate further, and not the one that was prepared."""
    await call.context.certificates.withdraw(call.principal.auth_id)


def _with_hosts(call: Call, view: CertificateView) -> CertificateView:
    """With the hosts whose agents have not come by since the next certificate is told of."""
    since = call.context.certificates.prepared
    if not since:
        return view
    joined = (host for host in call.context.hosts.list() if host.joined and not host.built_in)
    unaware = [host.name for host in joined if host.last_contact < since]
    return msgspec.structs.replace(view, unaware=unaware)
