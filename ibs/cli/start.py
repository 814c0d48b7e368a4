"""Where both programs begin: the light mirror of a role for a unit, the whole command line for everybody else.

Seven units start seven mirrors at boot, beside the server. They need neither the commands nor what these import, so
the one form that the units use is seen here before anything else is loaded. Everything else, this form with other
options too, is the business of `ibs.cli.admin`.
"""

from __future__ import annotations

import sys

from ibs.runtime.allocator import collect_seldom

ROLES = ("api", "scheduler", "worker", "verifier", "gc", "sync", "notify")


def client() -> None:
    """`ironcore-backup-client` with the arguments of the process."""
    collect_seldom()
    from ibs.cli.client import main as run  # noqa: PLC0415 - the setting above is for the time this takes

    run()


def main() -> None:
    """`ironcore-backup` with the arguments of the process."""
    match sys.argv[1:]:
        case ["service", "watch", role, "--state-dir", folder] if role in ROLES:
            from ibs.cli import mirror  # noqa: PLC0415 - see above

            mirror.main([role, folder])
        case _:
            collect_seldom()
            from ibs.cli import admin  # noqa: PLC0415 - see above

            admin.main()
