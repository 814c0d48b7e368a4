"""What follows from the figures: stages, and the slowest one of each direction."""

from __future__ import annotations

from ibs.client.benchmark.figures import BACKUP, HINTS, RESTORE, Figure, bottlenecks_of, stages_of

MIB = 1 << 20


def rates(**parts: int) -> list[Figure]:
    """Figures of so many MiB in a second; `_` in a part's name stands for a blank."""
    return [
        Figure.of(part.replace("_", " "), "level 3" if part.startswith("zstd") else "", rate * MIB, 1.0)
        for part, rate in parts.items()
    ]


ALL = rates(
    disk_read=500,
    chunking=900,
    hash=1000,
    zstd_compress=250,
    zstd_decompress=1000,
    aes_encrypt=1000,
    aes_decrypt=1000,
    tls=600,
    upload=100,
    download=90,
    disk_write=120,
)


def test_a_rate_is_bytes_by_seconds_whatever_the_clock_says() -> None:
    assert Figure.of("hash", "x", 100, 0.5).bytes_per_second == 200
    assert Figure.of("hash", "x", 100, 0.0).bytes_per_second == 100 * 10**9


def test_stages_count_threads_and_what_compression_saves_on_the_line() -> None:
    stages = {
        (one.direction, one.stage): one.bytes_per_second / MIB for one in stages_of(ALL, threads=2, level=3, ratio=2.0)
    }
    assert stages[BACKUP, "disk read"] == 500
    assert stages[BACKUP, "upload"] == 200
    assert stages[RESTORE, "download"] == 180
    assert stages[BACKUP, "tls"] == stages[RESTORE, "tls"] == 1200
    seconds_a_mib = 1 / 1000 + 1 / 250 + 1 / 2000
    assert abs(stages[BACKUP, "hash, compress, encrypt"] - 2 / seconds_a_mib) < 1
    assert abs(stages[RESTORE, "check, decompress, decrypt"] - 2 / (1 / 1000 + 1 / 1000 + 1 / 2000)) < 1
    assert {stage for _, stage in stages} <= set(HINTS)


def test_the_bottleneck_is_the_slowest_stage() -> None:
    backup, restore = bottlenecks_of(stages_of(ALL, threads=2, level=3, ratio=1.0))
    assert (backup.direction, backup.stage, backup.bytes_per_second) == (BACKUP, "upload", 100 * MIB)
    assert (restore.direction, restore.stage) == (RESTORE, "download")
    assert "server" in backup.hint


def test_what_was_not_measured_is_no_stage() -> None:
    without = [one for one in ALL if one.part not in {"upload", "download", "disk read", "disk write", "tls"}]
    stages = stages_of(without, threads=1, level=3, ratio=1.0)
    assert {one.stage for one in stages} == {"cutting", "hash, compress, encrypt", "check, decompress, decrypt"}
    assert {one.stage for one in stages_of(without, threads=1, level=7, ratio=1.0)} == {"cutting"}
    assert stages_of([], threads=1, level=3, ratio=1.0) == ()
    assert bottlenecks_of(()) == ()
