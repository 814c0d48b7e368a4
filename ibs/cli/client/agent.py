"""`ironcore-backup-client agent …`: this host as one that a server backs up, without a way in from outside."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from ibs import log
from ibs.cli.common import app, ask_secret, example, run
from ibs.cli.output import Output, OutputOption, print_facts, print_json, print_warning, say, state_text
from ibs.client.agent.identity import (
    AgentIdentity,
    AgentStatus,
    agent_folder,
    held,
    is_held,
    load_identity,
    load_status,
    repin,
    save_status,
)
from ibs.client.agent.identity import join as join_server
from ibs.client.agent.loop import Agent
from ibs.client.agent.policy import Policy, load_policy, policy_file
from ibs.client.config import Logins, Server
from ibs.client.http import ApiClient
from ibs.errors import NotAuthenticated, UsageError
from ibs.runtime import sdnotify
from ibs.runtime.clock import SystemClock
from ibs.runtime.pool import ThreadPool
from ibs.runtime.retry import Backoff
from ibs.security.pinning import Pins

root = app("agent", "The agent: lets a server back up this host. It connects outwards only, and this host says what.")

FolderOption = Annotated[
    Path | None,
    typer.Option("--agent-dir", envvar="IBS_AGENT_DIR", help="Folder with the agent's identity."),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", envvar="IBS_AGENT_CONFIG", help="What the server may have: paths, hooks (TOML)."),
]
AllowOption = Annotated[bool, typer.Option("--allow-all", help="Let the server back up everything on this host.")]


@root.command("join", epilog=example("ironcore-backup-client agent join backup.example:8007 --name web01"))
def join(
    server: Annotated[str, typer.Argument(metavar="SERVER", help="HOST[:PORT] of the server.")],
    name: Annotated[str, typer.Option(help="This host's name, as it was invited.")],
    fingerprint: Annotated[
        str, typer.Option(envvar="IBS_FINGERPRINT", help="Fingerprint of the server's certificate, as it printed it.")
    ] = "",
    token_file: Annotated[
        Path | None,
        typer.Option(envvar="IBS_JOIN_TOKEN_FILE", help="File with the join token; else IBS_JOIN_TOKEN, or a prompt."),
    ] = None,
    again: Annotated[bool, typer.Option(help="Replace the identity that this host has already.")] = False,
    agent_dir: FolderOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Exchange a join token (`ironcore-backup host invite`) for this host's own identity, kept in a 0600 file."""

    async def work() -> AgentIdentity:
        place = Server.parse(server)
        saved = Logins().get(place)
        pinned = fingerprint or (saved.fingerprint if saved is not None else "")
        if not pinned:
            raise UsageError(
                f"the certificate fingerprint of {place} is not known",
                hint="give the --fingerprint that `ironcore-backup host invite` printed",
            )
        folder = agent_folder(agent_dir)
        return await join_server(place, pinned, name, _token(name, token_file), folder, again=again)

    made = run(work, output)
    if output is Output.JSON:
        print_json({"name": made.name, "server": made.server, "auth_id": made.auth_id})
    say(f"host {made.name} has joined {made.server} as {made.auth_id}", output)
    say(f"say what it may have in {policy_file(None)}, then start: ironcore-backup-client agent run", output)


@root.command("run", epilog=example("ironcore-backup-client agent run", "systemctl enable --now ironcore-backup-agent"))
def run_(
    config: ConfigOption = None,
    allow_all: AllowOption = False,
    agent_dir: FolderOption = None,
) -> None:
    """Keep a connection to the server and do the backups that it asks for, until SIGTERM or Ctrl-C."""
    folder, source = agent_folder(agent_dir), policy_file(config)

    def policy() -> Policy:
        return load_policy(source, allow_all=allow_all)

    async def work() -> None:
        notifier = sdnotify.Notifier.from_environment(os.environ)
        identity = load_identity(folder)
        found = policy()  # what is wrong with it is told now, not with the first task
        if not found.allow_all and not found.paths:
            print_warning(f"nothing may be backed up yet: write paths into {source}, or start with --allow-all")
        with ExitStack() as stack:
            stack.enter_context(held(folder))
            stack.callback(log.configure(None).close)
            pins = Pins(identity.fingerprint)
            async with _polls(identity, pins, folder) as polls, identity.client(pins) as api:
                agent = Agent(
                    identity,
                    polls,
                    api,
                    policy,
                    pool=ThreadPool(),
                    clock=SystemClock(),
                    show=lambda status: _show(folder, notifier, status),
                )
                notifier.ready(f"trying to reach {identity.server}")  # it is up, whether or not the server is
                await agent.run()

    run(work)


@root.command("status", epilog=example("ironcore-backup-client agent status --output json"))
def status(config: ConfigOption = None, agent_dir: FolderOption = None, output: OutputOption = Output.TEXT) -> None:
    """Show which server this host has joined, whether its agent runs, and what the server may have."""
    folder, source = agent_folder(agent_dir), policy_file(config)

    async def work() -> tuple[AgentIdentity, AgentStatus | None, Policy]:
        return load_identity(folder), load_status(folder) if is_held(folder) else None, load_policy(source)

    identity, said, policy = run(work, output)
    facts = {
        "name": identity.name,
        "server": identity.server,
        "auth_id": identity.auth_id,
        "state": said.state if said else "not running",
        "since": said.since if said else "",
        "last_contact": said.last_contact if said else "",
        "last_error": said.last_error if said else "",
        "running": said.running if said else [],
        "pid": said.pid if said else 0,
        "version": said.version if said else "",
        "config": str(source),
        "allow_all": policy.allow_all,
        "paths": list(policy.paths),
        "hooks": list(policy.hooks),
    }
    shown: list[tuple[str, str | Text]] = [
        ("Host", identity.name),
        ("Server", f"{identity.server} as {identity.auth_id}"),
        ("State", state_text(str(facts["state"]))),
        ("Since", str(facts["since"])),
        ("Last contact", str(facts["last_contact"])),
        ("Last error", str(facts["last_error"])),
        ("Running", ", ".join(said.running) if said else ""),
        ("Allowed", "everything" if policy.allow_all else ", ".join(policy.paths) or f"nothing, see {source}"),
    ]
    print_facts(facts, [fact for fact in shown if fact[1]], output)


def _token(name: str, file: Path | None) -> str:
    """The join token: a file, IBS_JOIN_TOKEN, or a prompt; never an argument."""
    token = os.environ.get("IBS_JOIN_TOKEN", "")
    if file is not None:
        try:
            token = file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{file} cannot be read: {error}", hint="name a file that holds the token") from error
    token = token or ask_secret(f"Join token for {name}: ")
    if not token:
        raise NotAuthenticated(
            "no join token was given", hint="set IBS_JOIN_TOKEN, name a --token-file, or use a terminal"
        )
    return token


def _polls(identity: AgentIdentity, pins: Pins, folder: Path) -> ApiClient:
    """A client that tells each failure at once: the agent's loop is what tries again. It learns for all with `pins`."""
    return ApiClient(
        Server.parse(identity.server).url,
        fingerprint=pins,
        learned=partial(repin, folder, identity),
        auth_id=identity.auth_id,
        secret=identity.secret,
        backoff=Backoff(attempts=1),
    )


def _show(folder: Path, notifier: sdnotify.Notifier, said: AgentStatus) -> None:
    """Tell systemd and whoever asks for the status; neither is worth failing for."""
    if said.state == "connected":
        notifier.status(f"connected to {said.server}, {len(said.running)} tasks")
    else:
        notifier.status(f"trying to reach {said.server}: {said.last_error}"[:200])
    with suppress(OSError):
        save_status(folder, said)
