"""Logging in: learn a server's fingerprint, confirm it by hand, try the secret, keep both. Shared by both programs."""

from __future__ import annotations

import os
import sys

import msgspec
import typer

from ibs.cli.common import ask_secret, connect
from ibs.cli.output import Output, print_json, say
from ibs.client.config import Credentials, Login, Logins, Server, given_secret
from ibs.errors import NotAuthenticated, RefusedError
from ibs.security.pinning import offered_fingerprint
from ibs.wire.access import LoginGranted, LoginRequest
from ibs.wire.system import WhoAmI


async def log_in(server: Server, auth_id: str, output: Output) -> None:
    """Ask what is missing, prove the login against the server, save it. Never trusts a certificate by itself."""
    fingerprint = os.environ.get("IBS_FINGERPRINT") or await _confirmed_fingerprint(server)
    if not auth_id:
        auth_id = str(typer.prompt("Auth-id (user@realm, or user@realm!token)")) if sys.stdin.isatty() else ""
    word = "Secret" if "!" in auth_id else "Password"
    secret = given_secret(os.environ) or ask_secret(f"{word} of {auth_id}: ")
    if not auth_id or not secret:
        raise NotAuthenticated(
            "auth-id and secret are needed", hint="set IBS_SECRET or IBS_SECRET_FILE, or use a terminal"
        )
    if "!" not in auth_id:
        secret = await _granted(server, fingerprint, LoginRequest(auth_id=auth_id, password=secret))
    async with connect(Credentials(server, fingerprint, auth_id, secret)) as api:
        await api.get("/whoami", WhoAmI)
    Logins().save(server, Login(fingerprint, auth_id, secret))
    if output is Output.JSON:
        print_json({"server": str(server), "auth_id": auth_id, "fingerprint": fingerprint})
    say(f"logged in to {server} as {auth_id}; the certificate is pinned", output)


async def _granted(server: Server, fingerprint: str, request: LoginRequest) -> str:
    """What stands for a person for some hours; asks for a code when the server wants one."""
    request = msgspec.structs.replace(request, code=os.environ.get("IBS_CODE", ""))
    async with connect(Credentials(server, fingerprint, "", "")) as api:
        try:
            return (await api.post("/login", LoginGranted, request)).secret
        except NotAuthenticated as error:
            if request.code or "second factor" not in error.message:
                raise
            code = ask_secret("Code of the authenticator, or a recovery code: ")
            if not code:
                raise
        return (await api.post("/login", LoginGranted, msgspec.structs.replace(request, code=code))).secret


async def _confirmed_fingerprint(server: Server) -> str:
    offered = await offered_fingerprint(server.host, server.port)
    if not sys.stdin.isatty():
        raise RefusedError(
            f"the certificate of {server} is not pinned yet; it offers {offered}",
            hint="compare it with what the server showed at its start, then set IBS_FINGERPRINT to it",
        )
    say(f"The server offers the certificate with fingerprint\n  {offered}")
    say("Compare it with what `ironcore-backup status` prints on the server itself.")
    if typer.prompt("Type yes if they are the same") != "yes":
        raise RefusedError("the certificate was not confirmed", hint="ask the owner of the server for its fingerprint")
    return offered


def log_out(server: Server, output: Output) -> None:
    """Forget a saved login."""
    known = Logins().remove(server)
    if output is Output.JSON:
        print_json({"server": str(server), "removed": known})
    say(f"logged out from {server}" if known else f"there was no login for {server}", output)
