"""`ironcore-backup`: the server, and the administrator's commands over its API. One file a noun."""

from __future__ import annotations

from typing import Annotated

import typer

from ibs.cli.admin import (
    access,
    audit,
    backup,
    certificate,
    clock,
    datastore,
    gc,
    host,
    job,
    key,
    lock,
    login,
    namespace,
    notification,
    person,
    preview,
    prune,
    realm,
    recyclebin,
    remote,
    retention,
    role,
    serve,
    service,
    sla,
    snapshot,
    status,
    support,
    sync,
    task,
    verify,
    worker,
)
from ibs.cli.common import app, example, main_of
from ibs.version import PRODUCT, VERSION

root = app(
    "ironcore-backup",
    f"{PRODUCT}: the backup server and its administration.\n\n"
    "Commands talk to the server on this machine, or to another with --server (see `ironcore-backup login`).",
    add_completion=True,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ironcore-backup {VERSION}")
        raise typer.Exit


@root.callback(epilog=example("ironcore-backup serve", "ironcore-backup status --services"))
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


root.command("serve", epilog=example("ironcore-backup serve --state-dir /srv/ibs --listen 0.0.0.0:8007"))(serve.serve)
root.command("status", epilog=example("ironcore-backup status --services"))(status.status)
root.command("login", epilog=example("ironcore-backup login backup.example:8007"))(login.login)
root.command("logout", epilog=example("ironcore-backup logout backup.example:8007"))(login.logout)
root.add_typer(datastore.root)
datastore.root.add_typer(clock.root)
root.add_typer(namespace.root)
namespace.root.add_typer(lock.root)
root.add_typer(namespace.groups)
root.add_typer(snapshot.root)
snapshot.root.command(
    "lock", epilog=example("ironcore-backup snapshot lock ibs-primary host/web01/2026-11-22T19:00:00Z --until 365d")
)(lock.lock)
root.add_typer(recyclebin.root)
root.add_typer(retention.root)
root.add_typer(prune.root)
root.add_typer(task.root)
root.add_typer(verify.root)
root.add_typer(gc.root)
root.add_typer(worker.root)
root.add_typer(service.root)
root.add_typer(backup.root)
root.add_typer(host.root)
root.add_typer(job.root)
root.add_typer(key.root)
root.add_typer(remote.root)
root.add_typer(realm.root)
root.add_typer(sync.root)
root.add_typer(preview.root)
access.users.command("password", epilog=example("ironcore-backup user password anna@ibs"))(person.password)
access.users.add_typer(person.totp)
root.add_typer(access.users)
root.add_typer(access.tokens)
root.add_typer(access.acl)
root.add_typer(certificate.root)
root.add_typer(role.roles)
root.add_typer(role.usergroups)
root.add_typer(role.root)
root.add_typer(notification.root)
root.add_typer(audit.root)
root.add_typer(sla.root)
root.command("support-bundle", epilog=example("ironcore-backup support-bundle --task UPID"))(support.support_bundle)

main = main_of(root)
