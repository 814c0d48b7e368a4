"""The server's certificate: shown and replaced. What happens is in `services.certificates`."""

from __future__ import annotations

from ibs.control.routing import Call, Routes, needs
from ibs.core.access import Privilege
from ibs.wire.access import CertificateReplace, CertificateView

routes = Routes("system")
_CHANGE = needs(Privilege.SYSTEM_MODIFY, "/system")


@routes.route("GET", "/certificate", access=needs(Privilege.SYSTEM_AUDIT, "/system"), answer=CertificateView)
async def certificate_show(call: Call) -> CertificateView:
    """Show the server's certificate: fingerprint, names, when it expires."""
    return call.context.certificates.show()


@routes.route("POST", "/certificate", access=_CHANGE, body=CertificateReplace, answer=CertificateView)
async def certificate_replace(call: Call) -> CertificateView:
    """Serve another certificate from now on; connections that are there stay."""
    return await call.context.certificates.replace(call.principal.auth_id, call.body.pem)


@routes.route("POST", "/certificate/renew", access=_CHANGE, answer=CertificateView)
async def certificate_renew(call: Call) -> CertificateView:
    """Make a new self-signed certificate with a new key, and serve it from now on."""
    return await call.context.certificates.renew(call.principal.auth_id)
