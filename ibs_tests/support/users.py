"""Runs a function as an unprivileged user: in a forked child that gave its rights up when the tests run as root."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def public_folder() -> Iterator[Path]:
    """A folder that everybody can reach and write into, and that may get as deep as it likes.

    pytest's own are for their owner only, and it cannot remove what is deeper than a thousand levels.
    """
    path = Path(tempfile.mkdtemp(prefix="ibs-test-"))
    path.chmod(0o777)
    try:
        yield path
    finally:
        subprocess.run(["rm", "-rf", "--", path], check=True)


def as_nobody(work: Callable[[], None]) -> None:
    """Run `work` as nobody; its failed assertions fail here. As an ordinary user it just runs."""
    if os.geteuid() != 0:
        work()
        return
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            work()
            status = 0
        except BaseException:
            os.write(write, traceback.format_exc()[-8000:].encode())
        finally:
            sys.stdout.flush()
            os._exit(status)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        told = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, told
