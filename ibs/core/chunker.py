"""Content-defined chunking of file data with FastCDC (contrib/docs/formats.md §4.4).

Pure; used by `client` and whatever writes trees. Invariant: the cuts of a stream depend on its bytes, the seed and
the format's parameters only, never on how the stream was split into segments. Readers need not know how cuts were
made, so a change here costs deduplication, not readability; the golden cut vectors guard it all the same.
Paper: Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage Systems", 2020.
"""

from __future__ import annotations

import threading
import warnings
from typing import Final

from ibs.core import limits
from ibs.core.ids import Buffer
from ibs.errors import FailedError

with warnings.catch_warnings():
    # The pure-Python fallback only warns; `Chunker` refuses it in words an operator can act on.
    warnings.simplefilter("ignore")
    from pyfastcdc import FastCDC

_COMPILED: Final = "pyfastcdc.cy."
_NORMALISATION: Final = 1
_SEED_MASK: Final = (1 << 63) - 1


def check_build(module: str) -> None:
    """Raise FailedError unless `module`, home of FastCDC, is the compiled build; the other is 200 times slower."""
    if not module.startswith(_COMPILED):
        raise FailedError(
            f"the chunker's compiled build is missing ({module} was loaded)",
            hint="install pyfastcdc from its binary wheel for this platform",
        )


class Chunker:
    """Cuts a stream into chunks of 256 KiB to 4 MiB, 1 MiB wanted. Thread-confined; keeps no state between calls.

    `seed` is 0 for plain chunks, else `DataKeys.chunker_seed`. Raises FailedError without the compiled build.
    """

    def __init__(self, seed: int = 0) -> None:
        check_build(FastCDC.__module__)
        self._turn = threading.Lock()
        self._fastcdc = FastCDC(
            limits.TREE_CHUNK_BYTES_AVG,
            min_size=limits.TREE_CHUNK_BYTES_MIN,
            max_size=limits.TREE_CHUNK_BYTES_MAX,
            normalized_chunking=_NORMALISATION,
            # The library doubles the seed into 64 bits and overflows on the top bit, which no cut depends on: hashes
            # only ever shift and carry upwards, and all masks end below it.
            seed=seed & _SEED_MASK,
        )

    def cut(self, data: Buffer, *, final: bool) -> list[int]:
        """Lengths in bytes of the chunks at the start of `data`, which begins where the last chunk ended.

        With `final` they cover all of `data`. Without it a last cut that more data could move is left out: carry
        the bytes it would cover over and pass them again in front of the next segment. `data` is read in place.
        """
        if not self._turn.acquire(blocking=False):
            raise RuntimeError("a Chunker was used by two threads at once")
        try:
            lengths = [chunk.length for chunk in self._fastcdc.cut_buf(memoryview(data).toreadonly())]
        finally:
            self._turn.release()
        # A cut is moved by what follows only where the data ended before the content or the maximum decided it,
        # and that can only be the one at the very end.
        if not final and lengths and lengths[-1] < limits.TREE_CHUNK_BYTES_MAX:
            lengths.pop()
        return lengths
