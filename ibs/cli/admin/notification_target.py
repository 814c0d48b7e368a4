"""`ironcore-backup notification target …`: where messages go. Secrets come from a file, the environment or a prompt."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from ibs.cli.common import ServerOption, StateDirOption, administrator, app, ask_secret, example, fail, run
from ibs.cli.output import Column, Output, OutputOption, print_done, print_facts, print_rows
from ibs.errors import FailedError, UsageError
from ibs.units import parse_duration
from ibs.wire.notification import (
    TargetSecrets,
    TargetSet,
    TargetSpec,
    TargetView,
    TestRequest,
    TestResult,
)

root = app("target", "Targets: where messages go.")
create = app("create", "Make a target: smtp, webhook, metric or pushgateway.")
root.add_typer(create)

NameArgument = Annotated[str, typer.Argument(metavar="TARGET", help="Name of the target.")]
SecretFile = Annotated[
    Path | None, typer.Option(help="File with the password, signing key or token; else IBS_TARGET_SECRET.")
]
HeaderFile = Annotated[Path | None, typer.Option(help="File of extra headers, a line each: NAME: VALUE.")]
CaFile = Annotated[Path | None, typer.Option("--ca-file", help="PEM certificates to trust instead of the system's.")]
Attempts = Annotated[int, typer.Option(help="Disabled after so many failures in a row.")]
RetrySeconds = Annotated[float, typer.Option(help="Before the second attempt; doubled each time.")]
Fingerprint = Annotated[str, typer.Option(help="Accept this certificate (SHA-256) and no other.")]
Every = Annotated[
    str, typer.Option(metavar="DURATION", help="All figures of the server every so often, such as 1m; 0: never.")
]
Digest = Annotated[
    str, typer.Option(metavar="DURATION", help="What is milder than an error is collected for so long: 30m, 1d.")
]
_ATTEMPTS, _RETRY = 8, 10.0


def _test(row: TargetView) -> str:
    if row.test is None:
        return "not tested"
    return f"{row.test.time} {'OK' if row.test.ok else 'FAILED'}: {row.test.message}"


_TARGETS = (
    Column("TARGET", lambda row: row.name),
    Column("KIND", lambda row: row.spec.kind),
    Column("TO", lambda row: row.spec.url or ", ".join(row.spec.recipients)),
    Column("ENABLED", lambda row: "yes" if row.enabled else "no"),
    Column("WAITING", lambda row: str(row.waiting), right=True),
    Column("LAST TEST", _test),
    Column("TROUBLE", lambda row: row.disabled_why),
)


@create.command(
    "smtp", epilog=example("ironcore-backup notification target create smtp ops-smtp --host mx --from a@b.c --to d@b.c")
)
def create_smtp(
    name: NameArgument,
    host: Annotated[str, typer.Option(help="The mail server.")],
    sender: Annotated[str, typer.Option("--from", help="Sender's address.")],
    to: Annotated[list[str], typer.Option("--to", help="Recipient; repeatable.")],
    port: Annotated[int, typer.Option(help="By default that of --tls.")] = 0,
    tls: Annotated[str, typer.Option(help="starttls, implicit or none.")] = "starttls",
    username: Annotated[str, typer.Option(help="To log in as.")] = "",
    secret_file: SecretFile = None,
    ca_file: CaFile = None,
    fingerprint: Fingerprint = "",
    digest: Digest = "0",
    attempts: Attempts = _ATTEMPTS,
    retry_seconds: RetrySeconds = _RETRY,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Send mail."""

    async def work() -> TargetView:
        secret = _secret(secret_file) or (ask_secret(f"password of {username}") if username else "")
        spec = TargetSpec(
            kind="smtp",
            host=host,
            port=port,
            tls=tls,
            username=username,
            sender=sender,
            recipients=to,
            ca=_read(ca_file),
            fingerprint=fingerprint,
            digest_seconds=_duration(digest),
            attempts_max=attempts,
            retry_seconds=retry_seconds,
        )
        async with administrator(server, state_dir) as api:
            body = TargetSet(name=name, spec=spec, secrets=TargetSecrets(secret=secret))
            return await api.post("/notifications/targets", TargetView, body)

    _made(run(work, output), output)


@create.command(
    "webhook", epilog=example("ironcore-backup notification target create webhook chat --url https://chat.example/hook")
)
def create_webhook(
    name: NameArgument,
    url: Annotated[str, typer.Option(help="Where to post.")],
    template_file: Annotated[Path | None, typer.Option(help="The body, with $text, $severity, $events …")] = None,
    secret_file: SecretFile = None,
    header_file: HeaderFile = None,
    ca_file: CaFile = None,
    fingerprint: Fingerprint = "",
    digest: Digest = "0",
    attempts: Attempts = _ATTEMPTS,
    retry_seconds: RetrySeconds = _RETRY,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Post JSON; with a secret, signed in the header X-IBS-Signature (HMAC-SHA256 of the body)."""

    async def work() -> TargetView:
        secrets = TargetSecrets(secret=_secret(secret_file), headers=_headers(header_file))
        spec = TargetSpec(
            kind="webhook",
            url=url,
            template=_read(template_file),
            ca=_read(ca_file),
            fingerprint=fingerprint,
            digest_seconds=_duration(digest),
            attempts_max=attempts,
            retry_seconds=retry_seconds,
        )
        async with administrator(server, state_dir) as api:
            return await api.post(
                "/notifications/targets", TargetView, TargetSet(name=name, spec=spec, secrets=secrets)
            )

    _made(run(work, output), output)


@create.command(
    "metric",
    epilog=example(
        "ironcore-backup notification target create metric influx --url 'https://m.example/api/v2/write?bucket=b'"
    ),
)
def create_metric(
    name: NameArgument,
    url: Annotated[str, typer.Option(help="InfluxDB's write address, with its query.")],
    every: Every = "0",
    logs: Annotated[str, typer.Option(help="Log lines, too: of this level (debug to critical) and worse.")] = "",
    secret_file: SecretFile = None,
    header_file: HeaderFile = None,
    ca_file: CaFile = None,
    fingerprint: Fingerprint = "",
    digest: Digest = "0",
    attempts: Attempts = _ATTEMPTS,
    retry_seconds: RetrySeconds = _RETRY,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Send events in InfluxDB line protocol; with --every the server's figures, with --logs its log lines."""

    async def work() -> TargetView:
        spec = TargetSpec(
            kind="metric",
            url=url,
            figures_seconds=_duration(every),
            logs=logs,
            ca=_read(ca_file),
            fingerprint=fingerprint,
            digest_seconds=_duration(digest),
            attempts_max=attempts,
            retry_seconds=retry_seconds,
        )
        secrets = TargetSecrets(secret=_secret(secret_file), headers=_headers(header_file))
        async with administrator(server, state_dir) as api:
            return await api.post(
                "/notifications/targets", TargetView, TargetSet(name=name, spec=spec, secrets=secrets)
            )

    _made(run(work, output), output)


@create.command(
    "pushgateway",
    epilog=example("ironcore-backup notification target create pushgateway push --url http://gateway.example:9091"),
)
def create_pushgateway(
    name: NameArgument,
    url: Annotated[str, typer.Option(help="Of the push gateway, without /metrics.")],
    every: Every = "1m",
    secret_file: SecretFile = None,
    header_file: HeaderFile = None,
    ca_file: CaFile = None,
    fingerprint: Fingerprint = "",
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Push the server's figures to a push gateway of Prometheus; where it can be scraped, scrape it instead."""

    async def work() -> TargetView:
        spec = TargetSpec(
            kind="pushgateway",
            url=url,
            figures_seconds=_duration(every),
            ca=_read(ca_file),
            fingerprint=fingerprint,
        )
        secrets = TargetSecrets(secret=_secret(secret_file), headers=_headers(header_file))
        async with administrator(server, state_dir) as api:
            return await api.post(
                "/notifications/targets", TargetView, TargetSet(name=name, spec=spec, secrets=secrets)
            )

    _made(run(work, output), output)


@root.command("list", epilog=example("ironcore-backup notification target list"))
def list_(server: ServerOption = None, state_dir: StateDirOption = None, output: OutputOption = Output.TEXT) -> None:
    """List targets, what waits for each, and how its last test went."""

    async def work() -> list[TargetView]:
        async with administrator(server, state_dir) as api:
            return await api.get("/notifications/targets", list[TargetView])

    print_rows(run(work, output), _TARGETS, output, empty="no targets: events go to the inbox only")


@root.command("show", epilog=example("ironcore-backup notification target show ops-smtp"))
def show(
    name: NameArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show a target; its secrets are never shown."""

    async def work() -> TargetView:
        async with administrator(server, state_dir) as api:
            return await api.get(f"/notifications/targets/{name}", TargetView)

    row = run(work, output)
    facts = [(column.head.lower(), str(column.cell(row))) for column in _TARGETS]
    print_facts(
        row,
        [
            *facts,
            ("secret", "set" if row.has_secret else "none"),
            ("headers", ", ".join(row.headers)),
            ("comment", row.spec.comment),
        ],
        output,
    )


@root.command(
    "update", epilog=example("ironcore-backup notification target update chat --url https://chat.example/new")
)
def update(
    name: NameArgument,
    url: Annotated[str | None, typer.Option(help="Of webhook and metric.")] = None,
    template_file: Annotated[
        Path | None, typer.Option(help="The body of a webhook; an empty file: the default.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Of smtp.")] = None,
    port: Annotated[int | None, typer.Option(help="Of smtp; 0: that of --tls.")] = None,
    tls: Annotated[str | None, typer.Option(help="Of smtp: starttls, implicit or none.")] = None,
    username: Annotated[str | None, typer.Option(help="Of smtp, to log in as; empty: nobody.")] = None,
    sender: Annotated[str | None, typer.Option("--from", help="Sender of smtp.")] = None,
    to: Annotated[list[str] | None, typer.Option("--to", help="Recipients of smtp, all of them.")] = None,
    secret_file: SecretFile = None,
    header_file: HeaderFile = None,
    ca_file: CaFile = None,
    fingerprint: Annotated[str | None, typer.Option(help="Pin this certificate (SHA-256); empty: none.")] = None,
    digest: Annotated[str | None, typer.Option(metavar="DURATION", help="As of create; 0: none.")] = None,
    every: Annotated[str | None, typer.Option(metavar="DURATION", help="As of create metric; 0: never.")] = None,
    logs: Annotated[str | None, typer.Option(help="As of create metric; empty: none.")] = None,
    attempts: Annotated[int | None, typer.Option(help="Disabled after so many failures in a row.")] = None,
    retry_seconds: Annotated[float | None, typer.Option(help="Before the second attempt; doubled each time.")] = None,
    comment: Annotated[str | None, typer.Option(help="Free text.")] = None,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Change what is named of a target; the rest stays, secret and headers too. An empty file removes them."""
    given = {
        "url": url,
        "template": None if template_file is None else _read(template_file),
        "host": host,
        "port": port,
        "tls": tls,
        "username": username,
        "sender": sender,
        "recipients": to or None,
        "ca": None if ca_file is None else _read(ca_file),
        "fingerprint": fingerprint,
        "figures_seconds": None if every is None else _duration(every),
        "logs": logs,
        "digest_seconds": None if digest is None else _duration(digest),
        "attempts_max": attempts,
        "retry_seconds": retry_seconds,
        "comment": comment,
    }
    changes = {field: value for field, value in given.items() if value is not None}

    async def work() -> TargetView:
        secret = _secret(secret_file)
        keep_secret = secret_file is None and not secret
        secrets = TargetSecrets(secret=secret, headers=_headers(header_file))
        if not changes and keep_secret and header_file is None:
            raise UsageError("nothing to change was given", hint="see: notification target update --help")
        async with administrator(server, state_dir) as api:
            old = await api.get(f"/notifications/targets/{name}", TargetView)
            body = TargetSet(
                name=name,
                spec=msgspec.structs.replace(old.spec, **changes),
                secrets=secrets,
                keep_secret=keep_secret,
                keep_headers=header_file is None,
            )
            return await api.post(f"/notifications/targets/{name}", TargetView, body)

    run(work, output)
    print_done(f"target {name} is changed; try it: notification target test {name}", output, target=name)


@root.command("test", epilog=example("ironcore-backup notification target test ops-smtp --recipient admin@example.com"))
def send_test(
    name: NameArgument,
    recipient: Annotated[str, typer.Option(metavar="ADDRESS", help="Instead of an smtp target's own.")] = "",
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Send a message now; how it went is kept."""

    async def work() -> TestResult:
        async with administrator(server, state_dir) as api:
            return await api.post(f"/notifications/targets/{name}/test", TestResult, TestRequest(recipient=recipient))

    result = run(work, output)
    if not result.ok:
        hint = f"ironcore-backup notification history show {result.history} shows what was sent"
        fail(FailedError(f"the test of {name} failed: {result.message}", hint=hint), output)
    print_done(f"{name}: {result.message}", output, target=name, ok=True)


@root.command("enable", epilog=example("ironcore-backup notification target enable ops-smtp"))
def enable(
    name: NameArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Enable a target; what waited for it is sent."""
    row = _steer(name, "enable", server, state_dir, output)
    print_done(f"{name} is enabled; {row.waiting} messages are sent now", output, target=name, enabled=True)


@root.command("disable", epilog=example("ironcore-backup notification target disable ops-smtp"))
def disable(
    name: NameArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Disable a target; messages wait."""
    _steer(name, "disable", server, state_dir, output)
    print_done(f"{name} is disabled; messages wait", output, target=name, enabled=False)


@root.command("remove", epilog=example("ironcore-backup notification target remove ops-smtp"))
def remove(
    name: NameArgument,
    server: ServerOption = None,
    state_dir: StateDirOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Remove a target; what waits for it is dropped."""

    async def work() -> None:
        async with administrator(server, state_dir) as api:
            await api.delete(f"/notifications/targets/{name}")

    run(work, output)
    print_done(f"target {name} is removed", output, target=name)


def _steer(name: str, word: str, server: ServerOption, state_dir: StateDirOption, output: Output) -> TargetView:
    async def work() -> TargetView:
        async with administrator(server, state_dir) as api:
            return await api.post(f"/notifications/targets/{name}/{word}", TargetView, repeat=True)

    return run(work, output)


def _made(row: TargetView, output: Output) -> None:
    print_done(f"target {row.name} is made; try it: notification target test {row.name}", output, target=row.name)


def _read(path: Path | None) -> str:
    """Raises UsageError."""
    if path is None:
        return ""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read", hint=str(error)) from error


def _duration(text: str) -> int:
    """Raises UsageError."""
    return 0 if text in ("", "0") else round(parse_duration(text))


def _secret(path: Path | None) -> str:
    """Of the file if there is one, even when that is empty; else of the environment."""
    return os.environ.get("IBS_TARGET_SECRET", "") if path is None else _read(path).strip()


def _headers(path: Path | None) -> dict[str, str]:
    found = {}
    for line in _read(path).splitlines():
        name, colon, value = line.partition(":")
        if line.strip() and not colon:
            raise UsageError("a line of the header file is not NAME: VALUE")
        if colon:
            found[name.strip()] = value.strip()
    return found
