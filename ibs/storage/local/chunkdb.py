"""The chunk index of one store, `.ibs/chunks.db`: a cache of what the folders hold, plus what verification found.

Used inside `storage.local`. Synchronous SQLite on one connection under one lock; the store's flock makes us its only
user, so the connection locks the file exclusively and needs no shared memory. Work is batched.

Invariants (PROTOCOLS 4): a row is added only after its chunk was promoted and removed, committed, before its file is;
`generation` differs from the store's unless the last stop was clean, and then the index is rebuilt from the folders.
It may therefore lose its last commits with the power (synchronous=NORMAL) but is never trusted after that.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from ibs.core import limits
from ibs.ports.chunkstore import PLAIN_DOMAIN, Address

T = TypeVar("T")

_TABLE = """
CREATE TABLE {name} (
    id           BLOB    NOT NULL,  -- 32 bytes: (keyed) BLAKE3 of the plaintext
    domain       INTEGER NOT NULL,  -- domains.number
    stored_bytes INTEGER NOT NULL,  -- size of the file: header and payload; 0 when missing
    epoch        INTEGER NOT NULL,  -- store generation in which it was last acknowledged, or retired; never decreases
    verified_at  INTEGER,           -- seconds since 1970 when its digest was last found right; NULL: never
    state        INTEGER NOT NULL,  -- 0 ok, 1 bad, 2 suspect, 3 missing, 4 retired
    PRIMARY KEY (id, domain)
) WITHOUT ROWID
"""

_SCHEMA = (
    """
CREATE TABLE IF NOT EXISTS domains (
    number INTEGER PRIMARY KEY,     -- 0 is the plain domain
    domain BLOB    NOT NULL UNIQUE  -- 32 bytes: full fingerprint of the key
)""",
    """
CREATE TABLE IF NOT EXISTS meta (
    name  TEXT PRIMARY KEY,  -- 'generation': the store's generation when this index was last whole
    value INTEGER NOT NULL   -- that number
) WITHOUT ROWID""",
    """
CREATE TABLE IF NOT EXISTS totals (
    state        INTEGER PRIMARY KEY,  -- as in chunks
    chunks       INTEGER NOT NULL,     -- rows in that state
    stored_bytes INTEGER NOT NULL      -- sum of their sizes
)""",
)

_AFTER_TABLE = (
    "CREATE INDEX IF NOT EXISTS chunks_marked ON chunks (state) WHERE state != 0",
    # Kept by triggers, so that no code path can forget them; statistics then cost nothing on 30 million rows.
    """CREATE TRIGGER IF NOT EXISTS chunks_added AFTER INSERT ON chunks BEGIN
       UPDATE totals SET chunks = chunks + 1, stored_bytes = stored_bytes + new.stored_bytes WHERE state = new.state;
       END""",
    """CREATE TRIGGER IF NOT EXISTS chunks_removed AFTER DELETE ON chunks BEGIN
       UPDATE totals SET chunks = chunks - 1, stored_bytes = stored_bytes - old.stored_bytes WHERE state = old.state;
       END""",
    """CREATE TRIGGER IF NOT EXISTS chunks_changed AFTER UPDATE OF stored_bytes, state ON chunks
       WHEN old.stored_bytes != new.stored_bytes OR old.state != new.state BEGIN
       UPDATE totals SET chunks = chunks - 1, stored_bytes = stored_bytes - old.stored_bytes WHERE state = old.state;
       UPDATE totals SET chunks = chunks + 1, stored_bytes = stored_bytes + new.stored_bytes WHERE state = new.state;
       END""",
)

_ADD = """
INSERT INTO chunks (id, domain, stored_bytes, epoch, verified_at, state) VALUES (?, ?, ?, ?, NULL, ?)
ON CONFLICT (id, domain) DO UPDATE SET
    stored_bytes = excluded.stored_bytes, epoch = max(epoch, excluded.epoch), verified_at = NULL, state = excluded.state
"""


class RowState(IntEnum):
    """What is known about a promoted chunk. A retired one lies in the trash of its row's epoch."""

    OK = 0
    BAD = 1
    SUSPECT = 2
    MISSING = 3
    RETIRED = 4


_ROW_STATES = tuple(RowState)  # by number: calling the class is as dear as reading the row


class Row(NamedTuple):
    """One promoted (or lost) chunk. `verified_at` in seconds since 1970."""

    address: Address
    stored_bytes: int
    epoch: int
    verified_at: int | None
    state: RowState


class Found(NamedTuple):
    """A chunk file seen while the index is rebuilt. `healed`: its digest was just checked, so old marks are void.

    `retired`: the epoch in whose trash it lies; 0 when it does not.
    """

    address: Address
    stored_bytes: int
    bad: bool = False
    healed: bool = False
    retired: int = 0


@dataclass(frozen=True, slots=True)
class Totals:
    """Rows and bytes by state."""

    chunks: Mapping[RowState, int]
    stored_bytes: Mapping[RowState, int]


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of up to `size` items, in order."""
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch


class ChunkDb:
    """The open index. Thread-safe. Methods raise sqlite3.Error."""

    def __init__(self, path: str) -> None:
        """Open or make the index. Raises sqlite3.DatabaseError when the file is damaged."""
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
        try:
            self._prepare()
        except BaseException:
            self._db.close()
            raise
        self._load_domains()
        self.domain_number(PLAIN_DOMAIN)

    def _load_domains(self) -> None:
        rows = self._db.execute("SELECT number, domain FROM domains").fetchall()
        self._domains: dict[int, bytes] = dict(rows)
        self._numbers: dict[bytes, int] = {domain: number for number, domain in rows}

    def _prepare(self) -> None:
        self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("PRAGMA cache_size=-16384")
        with self._transaction():
            for statement in _SCHEMA:
                self._db.execute(statement)
            self._db.execute(_TABLE.format(name="IF NOT EXISTS chunks"))
            for statement in _AFTER_TABLE:
                self._db.execute(statement)
            self._db.executemany("INSERT OR IGNORE INTO totals VALUES (?, 0, 0)", [(int(s),) for s in RowState])

    @contextlib.contextmanager
    def _transaction(self, *, durable: bool = False) -> Iterator[None]:
        with self._lock:
            if durable:
                self._db.execute("PRAGMA synchronous=FULL")
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    self._load_domains()  # one may have been numbered inside
                    raise
            finally:
                if durable:
                    self._db.execute("PRAGMA synchronous=NORMAL")

    def close(self) -> None:
        """Fold the log into the file and close."""
        with self._lock:
            self._db.close()

    @property
    def path(self) -> str:
        """The file SQLite opened, as it resolved it; empty for an index without one."""
        with self._lock:
            return str(self._db.execute("PRAGMA database_list").fetchone()[2])

    def damage(self) -> str:
        """What SQLite finds wrong with the file; empty when nothing."""
        with self._lock:
            try:
                found = [str(row[0]) for row in self._db.execute("PRAGMA quick_check(3)")]
            except sqlite3.DatabaseError as error:
                return str(error)
        return "" if found == ["ok"] else "; ".join(found)

    # --- generation and domains ---

    @property
    def generation(self) -> int:
        """The store generation this index is whole for; 0 when it never was."""
        with self._lock:
            row = self._db.execute("SELECT value FROM meta WHERE name = 'generation'").fetchone()
        return int(row[0]) if row else 0

    def set_generation(self, generation: int) -> None:
        """Declare the index whole for `generation`. *Durability*: committed durably."""
        with self._transaction(durable=True):
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('generation', ?)", (generation,))

    def domain_number(self, domain: bytes) -> int:
        """The number of a domain, given at its first use."""
        number = self._numbers.get(domain)
        if number is not None:
            return number
        with self._lock:
            if domain in self._numbers:
                return self._numbers[domain]
            number = 0 if domain == PLAIN_DOMAIN else max(self._domains, default=0) + 1
            self._db.execute("INSERT INTO domains VALUES (?, ?)", (number, domain))
            self._domains[number], self._numbers[domain] = domain, number
            return number

    def domains(self) -> list[bytes]:
        """All domains ever stored here, the plain one among them."""
        with self._lock:
            return list(self._numbers)

    # --- rows ---

    def lookup(self, addresses: Iterable[Address]) -> dict[Address, Row]:
        """Rows of those addresses that have one."""
        found: dict[Address, Row] = {}
        for batch in batched(addresses, limits.STORE_DB_BATCH_ROWS):
            wanted = set(batch)
            marks = ",".join("?" * len(batch))
            query = f"SELECT * FROM chunks WHERE id IN ({marks})"  # noqa: S608 - only question marks are put in
            with self._lock:
                rows = self._db.execute(query, [address.id for address in batch]).fetchall()
            for each in rows:
                row = self._row(each)
                if row.address in wanted:
                    found[row.address] = row
        return found

    def add(self, chunks: Iterable[tuple[Address, int, RowState]], epoch: int) -> None:
        """Add or renew rows of promoted chunks: (address, stored bytes, state)."""
        with self._transaction():
            rows = [
                (address.id, self.domain_number(address.domain), stored_bytes, epoch, int(state))
                for address, stored_bytes, state in chunks
            ]
            rows.sort()  # near keys share pages
            self._db.executemany(_ADD, rows)

    def acknowledge(self, addresses: Iterable[Address], epoch: int) -> None:
        """Raise the epoch of rows that were answered for as present."""
        with self._transaction():
            self._db.executemany(
                "UPDATE chunks SET epoch = max(epoch, ?) WHERE id = ? AND domain = ?",
                sorted((epoch, address.id, self.domain_number(address.domain)) for address in addresses),
            )

    def mark(self, address: Address, state: RowState, epoch: int) -> None:
        """Set the state of one chunk; a row is made when there is none."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO chunks VALUES (?, ?, 0, ?, NULL, ?)"
                " ON CONFLICT (id, domain) DO UPDATE SET state = excluded.state, verified_at = NULL",
                (address.id, self.domain_number(address.domain), epoch, int(state)),
            )

    def record_verified(self, addresses: Iterable[Address], when: int) -> None:
        """Note that the stored digests of these were right at `when` (seconds since 1970)."""
        with self._transaction():
            self._db.executemany(
                "UPDATE chunks SET verified_at = ? WHERE id = ? AND domain = ?",
                [(when, address.id, self.domain_number(address.domain)) for address in addresses],
            )

    def remove(self, addresses: Iterable[Address]) -> None:
        """Remove rows. *Durability*: committed durably, so that their files may go."""
        with self._transaction(durable=True):
            self._db.executemany(
                "DELETE FROM chunks WHERE id = ? AND domain = ?",
                [(address.id, self.domain_number(address.domain)) for address in addresses],
            )

    def retire(self, moving: Iterable[Address], gone: Iterable[Address], epoch: int) -> None:
        """Rows of `moving` say that they lie in the trash of `epoch`; those of `gone` go.

        *Durability*: committed durably, so that their files may follow.
        """
        with self._transaction(durable=True):
            self._db.executemany(
                "UPDATE chunks SET state = 4, epoch = max(epoch, ?) WHERE id = ? AND domain = ?",
                [(epoch, address.id, self.domain_number(address.domain)) for address in moving],
            )
            self._db.executemany(
                "DELETE FROM chunks WHERE id = ? AND domain = ?",
                [(address.id, self.domain_number(address.domain)) for address in gone],
            )

    def revive(self, addresses: Iterable[Address], epoch: int) -> None:
        """Rows of retired chunks that are back in their places."""
        with self._transaction():
            self._db.executemany(
                "UPDATE chunks SET state = 0, epoch = max(epoch, ?) WHERE id = ? AND domain = ? AND state = 4",
                [(epoch, address.id, self.domain_number(address.domain)) for address in addresses],
            )

    def put_back(self, rows: Iterable[Row]) -> None:
        """Retired rows as they were before."""
        with self._transaction():
            self._db.executemany(
                "UPDATE chunks SET state = ?, epoch = ? WHERE id = ? AND domain = ? AND state = 4",
                [(int(row.state), row.epoch, row.address.id, self.domain_number(row.address.domain)) for row in rows],
            )

    def trash(self) -> list[tuple[int, int, int]]:
        """(epoch, chunks, bytes) of what is retired, oldest first. Looks at each retired row."""
        with self._lock:
            return self._db.execute(
                "SELECT epoch, count(*), sum(stored_bytes) FROM chunks WHERE state != 0 AND state = 4"
                " GROUP BY epoch ORDER BY epoch"
            ).fetchall()

    def trashed(self, epoch: int) -> Iterator[Row]:
        """Retired rows of an epoch, in order of id; changes meanwhile may or may not show."""
        after: tuple[bytes, int] = (b"", -1)
        while True:
            with self._lock:
                rows = self._db.execute(
                    "SELECT * FROM chunks WHERE state != 0 AND state = 4 AND epoch = ? AND (id, domain) > (?, ?)"
                    " ORDER BY id, domain LIMIT ?",
                    (epoch, *after, limits.STORE_DB_BATCH_ROWS),
                ).fetchall()
            yield from map(self._row, rows)
            if len(rows) < limits.STORE_DB_BATCH_ROWS:
                return
            after = (rows[-1][0], rows[-1][1])

    def columns(self, first: bytes, last: bytes) -> Iterator[list[tuple[bytes, int, int, int, int]]]:
        """(id, domain number, stored bytes, epoch, state) of rows with first <= id <= last, in batches by id."""
        after: tuple[bytes, int] = (first, -1)
        while True:
            with self._lock:
                rows = self._db.execute(
                    "SELECT id, domain, stored_bytes, epoch, state FROM chunks"
                    " WHERE (id, domain) > (?, ?) AND id <= ? ORDER BY id, domain LIMIT ?",
                    (*after, last, limits.STORE_SCAN_ROWS),
                ).fetchall()
            if rows:
                yield rows
            if len(rows) < limits.STORE_SCAN_ROWS:
                return
            after = (rows[-1][0], rows[-1][1])

    def domain(self, number: int) -> bytes:
        """The domain of that number. Raises KeyError."""
        return self._domains[number]

    def marked(self) -> Iterator[Row]:
        """Rows that are bad, suspect or missing."""
        with self._lock:
            rows = self._db.execute("SELECT * FROM chunks WHERE state != 0 AND state IN (1, 2, 3)").fetchall()
        return map(self._row, rows)

    def iterate(self, prefix: str = "") -> Iterator[Row]:
        """Rows whose hex id starts with `prefix`, in order of id; changes meanwhile may or may not show."""
        low = bytes.fromhex(prefix + "0" * (len(prefix) % 2)).ljust(32, b"\0")
        high = bytes.fromhex(prefix + "f" * (len(prefix) % 2)).ljust(32, b"\xff")
        after: tuple[bytes, int] = (low, -1)
        while True:
            with self._lock:
                rows = self._db.execute(
                    "SELECT * FROM chunks WHERE (id, domain) > (?, ?) AND id <= ? ORDER BY id, domain LIMIT ?",
                    (*after, high, limits.STORE_DB_BATCH_ROWS),
                ).fetchall()
            yield from map(self._row, rows)
            if len(rows) < limits.STORE_DB_BATCH_ROWS:
                return
            after = (rows[-1][0], rows[-1][1])

    def totals(self) -> Totals:
        """Counts and bytes by state, at no cost."""
        with self._lock:
            rows = self._db.execute("SELECT state, chunks, stored_bytes FROM totals").fetchall()
        return Totals({RowState(s): n for s, n, _ in rows}, {RowState(s): b for s, _, b in rows})

    def rebuild(self, found: Iterable[Found], epoch: int) -> None:
        """Replace all rows by what was found in the folders; one transaction, old rows stay until it commits.

        A row whose file was not found becomes missing, unless it was retired. Times of verification, suspicion, and
        (unless healed) the bad mark of a file that is still there are kept. Every row but a retired one gets `epoch`.
        """
        with self._transaction(durable=True):
            self._db.execute("DROP TABLE IF EXISTS rebuilt")
            self._db.execute(_TABLE.format(name="rebuilt"))
            for batch in batched(found, limits.STORE_DB_BATCH_ROWS):
                self._db.executemany(
                    "INSERT OR REPLACE INTO rebuilt VALUES (?, ?, ?, ?, NULL, ?)",
                    [
                        # -1: whatever it was, it is whole now
                        (
                            f.address.id,
                            self.domain_number(f.address.domain),
                            f.stored_bytes,
                            f.retired or epoch,
                            _found_state(f),
                        )
                        for f in batch
                    ],
                )
            self._db.execute(
                "UPDATE rebuilt SET verified_at = old.verified_at,"
                " state = CASE WHEN rebuilt.state = 0 AND old.state IN (1, 2) THEN old.state ELSE rebuilt.state END"
                " FROM chunks AS old WHERE old.id = rebuilt.id AND old.domain = rebuilt.domain AND rebuilt.state >= 0"
            )
            self._db.execute("UPDATE rebuilt SET state = 0 WHERE state < 0")
            self._db.execute(
                "INSERT INTO rebuilt SELECT id, domain, 0, ?, NULL, 3 FROM chunks AS old WHERE state != 4"
                " AND NOT EXISTS (SELECT 1 FROM rebuilt WHERE rebuilt.id = old.id AND rebuilt.domain = old.domain)",
                (epoch,),
            )
            self._db.execute("DROP TABLE chunks")
            self._db.execute("ALTER TABLE rebuilt RENAME TO chunks")
            for statement in _AFTER_TABLE:
                self._db.execute(statement)
            self._db.execute(
                "UPDATE totals SET"
                " chunks = (SELECT count(*) FROM chunks WHERE chunks.state = totals.state),"
                " stored_bytes = (SELECT coalesce(sum(stored_bytes), 0) FROM chunks WHERE chunks.state = totals.state)"
            )

    def _row(self, row: tuple[Any, ...]) -> Row:
        chunk_id, domain, stored_bytes, epoch, verified_at, state = row
        return Row(Address(self._domains[domain], chunk_id), stored_bytes, epoch, verified_at, _ROW_STATES[state])


def _found_state(found: Found) -> int:
    if found.retired:
        return int(RowState.RETIRED)
    if found.bad:
        return int(RowState.BAD)
    return -1 if found.healed else int(RowState.OK)
