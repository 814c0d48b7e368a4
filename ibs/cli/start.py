"""Where `ironcore-backup` begins: the light mirror of a role for a unit, the whole command line for everybody else.

Seven units start seven mirrors at boot, beside the server. They need neither the commands nor what these import, so
the one form that the units use is seen here before anything else is loaded. Everything else, this form with other
options too, is the business of `ibs.cli.admin`.
"""

from __future__ import annotations

import sys

ROLES = ("api", "scheduler", "worker", "verifier", "gc", "sync", "notify")


def main() -> None:
    """Run the program with the arguments of the process."""
    match sys.argv[1:]:
        case ["service", "watch", role, "--state-dir", folder] if role in ROLES:
            from ibs.cli import mirror  # noqa: PLC0415 - see above

            mirror.main([role, folder])
        case _:
            from ibs.cli import admin  # noqa: PLC0415 - see above

            admin.main()
