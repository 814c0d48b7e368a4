"""The benchmark from its options to its report: the use case behind `ironcore-backup-client benchmark`.

Imported by `cli`. The server comes first, so that what is wrong with it is told before anything else takes time. Each
part is measured alone; every part is bounded in time and size.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from ibs.client.benchmark import compute
from ibs.client.benchmark.disk import measure_disk
from ibs.client.benchmark.figures import BenchmarkReport, Figure, bottlenecks_of, stages_of
from ibs.client.benchmark.server import Wish, measure_server
from ibs.client.benchmark.tls import measure_tls
from ibs.client.http import ApiClient
from ibs.core import limits
from ibs.errors import UsageError
from ibs.ports.clock import Clock
from ibs.ports.pool import Pool

SIZE_DEFAULT = 256 * limits.MIB
SIZE_MIN = 16 * limits.MIB
SIZE_MAX = 64 * limits.GIB
LEVEL = 3

_STEP_SECONDS = 0.4
_LONG_SECONDS = 10.0


@dataclass(frozen=True)
class BenchmarkPlan:
    """`size` bytes are written to `folder` and sent to `store` (none without a server); `step_seconds` bound each
    computation, `long_seconds` disk and network each way. `group` is where the session is opened.
    """

    folder: str
    size: int = SIZE_DEFAULT
    store: str = ""
    namespace: str = ""
    group: str = ""
    client: str = ""
    repository: str = ""
    step_seconds: float = _STEP_SECONDS
    long_seconds: float = _LONG_SECONDS

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if not SIZE_MIN <= self.size <= SIZE_MAX:
            raise UsageError(f"size {self.size} is not valid", hint="write it like 256 MiB; 16 MiB to 64 GiB")


async def run_benchmark(
    plan: BenchmarkPlan,
    api: ApiClient | None,
    *,
    pool: Pool,
    clock: Clock,
    begin: Callable[[str], None] = lambda _part: None,
) -> BenchmarkReport:
    """Measure everything; `begin` is told each part before it starts.

    Raises what the server refuses. *Cancellation*: at any time; nothing is left behind.
    """
    figures: list[Figure] = []
    notes: list[str] = []
    round_trip = 0.0
    if api is not None:
        begin("server")
        wish = Wish(plan.store, plan.namespace, plan.group, plan.client, plan.size, plan.long_seconds)
        found, round_trip, said = await measure_server(api, wish, pool=pool, clock=clock)
        figures += found
        notes += said
    else:
        notes.append("no repository was named: the way to a server was not measured")
    begin("TLS")
    found, said = await measure_tls(pool, clock, plan.step_seconds)
    figures += found
    notes += said
    begin("processor")
    found, ratio = await _compute(pool, clock, plan.step_seconds)
    figures += found
    begin("disk")
    found, said = await measure_disk(pool, clock, plan.folder, plan.size, plan.long_seconds)
    figures += found
    notes += said
    cores = os.cpu_count() or 1
    notes += _busy(os.getloadavg()[0], cores)
    threads = min(cores, limits.POOL_CPU_THREADS)
    stages = stages_of(figures, threads=threads, level=LEVEL, ratio=ratio)
    return BenchmarkReport(
        cores=cores,
        threads=threads,
        level=LEVEL,
        compression_ratio=round(ratio, 3),
        figures=tuple(figures),
        stages=stages,
        bottlenecks=bottlenecks_of(stages),
        round_trip_ms=round_trip,
        repository=plan.repository,
        notes=tuple(notes),
    )


def _busy(load: float, cores: int) -> list[str]:
    """A warning when others use the machine too; this program alone makes a load of about one."""
    if load <= max(cores, 1) + 0.5:
        return []
    return [f"this machine is busy (load average {load:.1f} on {cores} processors): idle, it would show better figures"]


async def _compute(pool: Pool, clock: Clock, seconds: float) -> tuple[list[Figure], float]:
    """One thread's figures, and content by compressed size at the default level."""
    data = await pool.cpu(compute.sample)
    pieces = compute.pieces_of(data)
    monotonic = clock.monotonic
    figures = [
        await pool.cpu(lambda: compute.measure_hash(pieces, seconds, monotonic)),
        await pool.cpu(lambda: compute.measure_chunking(data, seconds, monotonic)),
    ]
    default = 1.0
    for level in compute.LEVELS:
        pack, unpack, ratio = await pool.cpu(lambda at=level: compute.measure_zstd(pieces, at, seconds, monotonic))
        figures += [pack, unpack]
        if level == LEVEL:
            default = ratio
    figures += await pool.cpu(lambda: compute.measure_aes(pieces, seconds, monotonic))
    return figures, default
