"""An allocator that keeps what it has."""

from __future__ import annotations

import subprocess
import sys

FAULTS = """
import resource, sys
from ibs.runtime import allocator
if sys.argv[1] == "keep":
    allocator.keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
held = [bytes(1 << 20) for _ in range(8)]
del held
before = faults()
for _ in range(50):
    held = [b"x" * (5 << 20) for _ in range(8)]
    del held
print(faults() - before)
"""


def _faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, check=True, text=True)
    return int(done.stdout)


def test_freed_chunk_buffers_are_not_given_back_and_fetched_again() -> None:
    assert _faults("keep") * 4 < _faults("leave")


COLLECTING = """
import gc
from ibs.runtime import allocator
before = gc.get_threshold()
allocator.collect_as_usual()
assert gc.get_freeze_count() == 0
allocator.collect_seldom()
assert gc.get_threshold()[0] > 10 * before[0]
allocator.collect_as_usual()
print(gc.get_threshold() == before, gc.get_freeze_count() > 0, gc.isenabled())
"""


def test_cycles_are_looked_for_as_usual_once_a_program_has_started() -> None:
    done = subprocess.run([sys.executable, "-c", COLLECTING], capture_output=True, check=True, text=True)
    assert done.stdout.split() == ["True", "True", "True"]
