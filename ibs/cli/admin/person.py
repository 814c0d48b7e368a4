"""`ironcore-backup user password` and `user totp …`: how people log in. Machines use tokens."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from ibs.cli.common import ServerOption, StateDirOption, administrator, app, ask_secret, example, run
from ibs.cli.output import Output, OutputOption, print_done, print_facts, print_json, say
from ibs.errors import UsageError
from ibs.wire.access import LoginView, PasswordSet, TotpMade

totp = app("totp", "The second factor of a user: codes of an authenticator, and recovery codes.")

UserArgument = Annotated[str, typer.Argument(metavar="USER", help="user@realm.")]


def password(
    user: UserArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Set the password a user logs in with; asked for, or from IBS_NEW_PASSWORD. Ends the user's logins."""

    async def work() -> LoginView:
        body = PasswordSet(password=_new_password(user))
        async with administrator(server, state_dir) as api:
            return await api.post(f"/access/logins/{user}/password", LoginView, body)

    run(work, output)
    print_done(f"user {user} has a password: ironcore-backup login HOST --auth-id {user}", output, auth_id=user)


def _new_password(user: str) -> str:
    given = os.environ.get("IBS_NEW_PASSWORD") or ask_secret(f"New password of {user}: ")
    if not given:
        raise UsageError("no password was given", hint="set IBS_NEW_PASSWORD, or use a terminal")
    if "IBS_NEW_PASSWORD" not in os.environ and ask_secret("The same again: ") != given:
        raise UsageError("the two are not the same", hint="nothing was changed")
    return given


@totp.command("enable", epilog=example("ironcore-backup user totp enable anna@ibs"))
def enable(
    user: UserArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Give a user a second factor. Its secret and recovery codes are shown once, now."""

    async def work() -> TotpMade:
        async with administrator(server, state_dir) as api:
            return await api.post(f"/access/logins/{user}/totp", TotpMade)

    made = run(work, output)
    if output is Output.JSON:
        print_json(made)
        return
    say(f"for the authenticator, as a QR code or typed:\n  {made.uri}\n  secret {made.secret}")
    say("recovery codes, each good once instead of a code; keep them on paper:")
    for code in made.recovery:
        say(f"  {code}")


@totp.command("disable", epilog=example("ironcore-backup user totp disable anna@ibs"))
def disable(
    user: UserArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Take the second factor away: the password is enough. For somebody who has lost both phone and paper."""

    async def work() -> None:
        async with administrator(server, state_dir) as api:
            await api.delete(f"/access/logins/{user}/totp")

    run(work, output)
    print_done(f"user {user} has no second factor any more", output, auth_id=user, totp=False)


@totp.command("show", epilog=example("ironcore-backup user totp show anna@ibs"))
def show(
    user: UserArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show how a user may log in, and how many recovery codes are left."""

    async def work() -> LoginView:
        async with administrator(server, state_dir) as api:
            return await api.get(f"/access/logins/{user}", LoginView)

    found = run(work, output)
    facts = [
        ("User", found.auth_id),
        ("Password", "yes" if found.password else "no"),
        ("Second factor", "yes" if found.totp else "no"),
        ("Recovery codes", str(found.recovery_left)),
        ("Logged in", f"{found.sessions} times"),
    ]
    print_facts(found, facts, output)
