"""The schema of `state.db` as numbered steps, each run once and all in one transaction.

Used by `catalog.catalog` only. A step is never changed after a release: later changes are new steps. The number of the
last step is SQLite's `user_version`; `application_id` marks the file as ours. A file from a newer program is
refused untouched.

Times are nanoseconds since the epoch (UTC) in columns `*_ns`; booleans are 0 or 1; fingerprints and ids are text.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ibs.errors import ConflictError

APPLICATION_ID: Final = 0x49425331  # "IBS1"


@dataclass(frozen=True, slots=True)
class Migration:
    """One step. `number` counts from 1 without gaps; `sql` is one or more statements."""

    number: int
    title: str
    sql: str


MIGRATIONS: Final[Sequence[Migration]] = (
    Migration(
        1,
        "the first state",
        """
CREATE TABLE settings (
    name  TEXT PRIMARY KEY,  -- what is set, such as server-uuid
    value TEXT NOT NULL      -- its value as text
) STRICT, WITHOUT ROWID;

CREATE TABLE datastores (
    name        TEXT PRIMARY KEY,          -- how people call it
    path        TEXT NOT NULL UNIQUE,      -- absolute path of its root
    uuid        TEXT NOT NULL UNIQUE,      -- identity, as in .ibs/datastore.json
    comment     TEXT NOT NULL,             -- free text
    maintenance TEXT NOT NULL DEFAULT ''   -- '' for none, else why the operator keeps it from work
) STRICT, WITHOUT ROWID;

CREATE TABLE tasks (
    upid       TEXT PRIMARY KEY,         -- unique id of the task
    type       TEXT NOT NULL,            -- backup, restore, verify, ...
    id         TEXT NOT NULL,            -- what it works on
    auth_id    TEXT NOT NULL,            -- who asked for it
    state      TEXT NOT NULL,            -- queued, Starting, running, OK, WARNING, FAILED, CANCELLED
    started_ns INTEGER NOT NULL,         -- when it was asked for
    ended_ns   INTEGER,                  -- when it ended; NULL while it has not
    message    TEXT NOT NULL DEFAULT '', -- why it ended so
    warnings   INTEGER NOT NULL DEFAULT 0,  -- how many warning lines its log has
    figures    TEXT NOT NULL DEFAULT '{}'   -- JSON: bytes, files, figures of each stage
) STRICT;
CREATE INDEX tasks_by_time ON tasks (started_ns);
CREATE INDEX tasks_open ON tasks (started_ns) WHERE ended_ns IS NULL;

CREATE TABLE users (
    auth_id    TEXT PRIMARY KEY,    -- user@realm
    enabled    INTEGER NOT NULL,    -- 0: neither the user nor any token of it may come in
    comment    TEXT NOT NULL,       -- free text
    created_ns INTEGER NOT NULL     -- when it was made
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
    auth_id      TEXT PRIMARY KEY,  -- user@realm!token
    user         TEXT NOT NULL REFERENCES users (auth_id) ON DELETE CASCADE,  -- whose rights bound its own
    digest       BLOB NOT NULL,     -- BLAKE3 of the secret, keyed by the server key
    enabled      INTEGER NOT NULL,  -- 0: refused
    comment      TEXT NOT NULL,     -- free text
    created_ns   INTEGER NOT NULL,  -- when it was made
    expires_ns   INTEGER,           -- from then on refused; NULL: never
    last_used_ns INTEGER            -- roughly when it last came in; NULL: never
) STRICT, WITHOUT ROWID;
CREATE INDEX tokens_by_user ON tokens (user);

CREATE TABLE acl (
    path      TEXT NOT NULL,     -- such as /datastore/main/ns/a
    auth_id   TEXT NOT NULL,     -- user or token
    role      TEXT NOT NULL,     -- name of a role
    propagate INTEGER NOT NULL,  -- 1: also for everything below the path
    PRIMARY KEY (path, auth_id, role)
) STRICT, WITHOUT ROWID;

CREATE TABLE inbox (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,  -- grows for ever, so that readers can ask for newer ones
    time_ns  INTEGER NOT NULL,  -- when it happened
    severity TEXT NOT NULL,     -- info, notice, warning, error, critical
    source   TEXT NOT NULL,     -- backup, verify, system, ...
    kind     TEXT NOT NULL,     -- stable name of what happened
    text     TEXT NOT NULL,     -- one sentence
    fields   TEXT NOT NULL      -- JSON: its facts
) STRICT;

CREATE TABLE timetable (
    job         TEXT PRIMARY KEY,  -- name of the job
    last_run_ns INTEGER,           -- when it last started; NULL: never
    next_run_ns INTEGER            -- when it is due; NULL: not planned
) STRICT, WITHOUT ROWID;
""",
    ),
    Migration(
        2,
        "hosts with an agent",
        """
CREATE TABLE hosts (
    name              TEXT PRIMARY KEY,  -- what jobs and people call it
    created_ns        INTEGER NOT NULL,  -- when it was first invited
    tags              TEXT NOT NULL,     -- JSON: list of words that jobs choose by
    project           TEXT NOT NULL,     -- whom it belongs to; '' for nobody
    auth_id           TEXT NOT NULL,     -- its agent's token, user@realm!token; '' while it has not joined
    joined_ns         INTEGER,           -- when it joined last; NULL: never
    version           TEXT NOT NULL,     -- of its agent
    system            TEXT NOT NULL,     -- its kernel and machine, as it says itself
    address           TEXT NOT NULL,     -- where it was seen last
    last_contact_ns   INTEGER,           -- roughly when it was last heard; NULL: never
    invite_digest     BLOB,              -- BLAKE3 of the join token, keyed by the server key; NULL: not invited
    invite_expires_ns INTEGER,           -- from then on the token is refused
    invite_used_ns    INTEGER            -- when it was used; NULL: it was not
) STRICT, WITHOUT ROWID;
""",
    ),
    Migration(
        3,
        "jobs, the worker's queue, and whose work a task was",
        """
ALTER TABLE tasks ADD COLUMN host TEXT NOT NULL DEFAULT '';  -- where it works; '' for the server itself
ALTER TABLE tasks ADD COLUMN job  TEXT NOT NULL DEFAULT '';  -- the job that wanted it; '' for none
ALTER TABLE tasks ADD COLUMN work TEXT NOT NULL DEFAULT '';  -- JSON: what was asked for, to do it again; '' for cannot

CREATE INDEX tasks_by_job ON tasks (job, started_ns) WHERE job <> '';

CREATE TABLE queue (
    upid          TEXT PRIMARY KEY,  -- the task that waits or runs
    id            TEXT NOT NULL,     -- what the task is about
    auth_id       TEXT NOT NULL,     -- who asked for it
    queued_ns     INTEGER NOT NULL,  -- when it was put here: its place in the order
    not_before_ns INTEGER NOT NULL,  -- it does not begin earlier; 0: at once
    attempt       INTEGER NOT NULL,  -- 1 for the first
    began         INTEGER NOT NULL,  -- 1 once it got a slot
    run           TEXT NOT NULL      -- JSON: what is to be done
) STRICT, WITHOUT ROWID;

CREATE TABLE jobs (
    name        TEXT PRIMARY KEY,  -- what people call it
    spec        TEXT NOT NULL,     -- JSON: sources, place, times, retention and so on
    enabled     INTEGER NOT NULL,  -- 0: its times pass without a run
    created_ns  INTEGER NOT NULL,  -- when it was made
    changed_ns  INTEGER NOT NULL,  -- when it was changed last
    changed_by  TEXT NOT NULL,     -- by whom
    last_run_ns INTEGER,           -- when it was due last and its tasks were queued; NULL: never
    next_run_ns INTEGER            -- when it is due; NULL: never by itself
) STRICT, WITHOUT ROWID;
""",
    ),
    Migration(
        4,
        "notifications: where they go, which of them, and what is still to be sent",
        """
CREATE TABLE notification_targets (
    name         TEXT PRIMARY KEY,  -- what people call it
    spec         TEXT NOT NULL,     -- JSON: kind, address and so on, without secrets
    sealed       BLOB NOT NULL,     -- JSON of its secrets, encrypted under the server key
    enabled      INTEGER NOT NULL,  -- 0: messages wait
    disabled_why TEXT NOT NULL,     -- the last error, when it was disabled by itself
    failures     INTEGER NOT NULL,  -- attempts in a row that failed
    retry_ns     INTEGER NOT NULL,  -- not before; 0: at once
    test         TEXT NOT NULL      -- JSON: how the last test went; null: not tested
) STRICT, WITHOUT ROWID;

CREATE TABLE notification_words (
    kind TEXT NOT NULL,  -- group or rule
    name TEXT NOT NULL,  -- what people call it
    spec TEXT NOT NULL,  -- JSON
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE notification_outbox (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order, within a target
    target   TEXT NOT NULL,              -- its name
    event    TEXT NOT NULL,              -- JSON
    time_ns  INTEGER NOT NULL,           -- when it happened
    state    TEXT NOT NULL,              -- waiting, sent, failed (a test) or dropped
    attempts INTEGER NOT NULL DEFAULT 0, -- how often it was tried
    error    TEXT NOT NULL,              -- of the last attempt; '' for none
    payload  TEXT NOT NULL DEFAULT '',   -- what was last sent, without secrets
    command  TEXT NOT NULL DEFAULT ''    -- repeats it by hand
) STRICT;

CREATE INDEX notification_outbox_by_target ON notification_outbox (target, state, id);
""",
    ),
    Migration(
        5,
        "data keys and where only encrypted snapshots may be made",
        """
CREATE TABLE data_keys (
    fingerprint TEXT NOT NULL,     -- colon form
    datastore   TEXT NOT NULL,     -- '' for every datastore
    namespace   TEXT NOT NULL,     -- '' for all of the datastore; else this one and those below
    signer      TEXT NOT NULL,     -- Ed25519 public key, hex
    comment     TEXT NOT NULL,     -- what people call it
    state       TEXT NOT NULL,     -- active, replaced (still taken) or retired
    replaced_by TEXT NOT NULL,     -- fingerprint of the key that follows it; ''
    added_ns    INTEGER NOT NULL,  -- when it was registered there
    added_by    TEXT NOT NULL,     -- auth-id
    retired_ns  INTEGER,           -- since when it is not taken any more; NULL: it is
    retired_by  TEXT NOT NULL,     -- auth-id; ''
    public      TEXT NOT NULL,     -- the registered file, JSON
    PRIMARY KEY (fingerprint, datastore, namespace)
) STRICT, WITHOUT ROWID;

CREATE TABLE key_policies (
    datastore TEXT NOT NULL,       -- its name
    namespace TEXT NOT NULL,       -- '' for all of the datastore; the most specific row decides
    required  INTEGER NOT NULL,    -- 1: only encrypted snapshots
    set_ns    INTEGER NOT NULL,    -- when
    set_by    TEXT NOT NULL,       -- auth-id
    PRIMARY KEY (datastore, namespace)
) STRICT, WITHOUT ROWID;
""",
    ),
    Migration(
        6,
        "roles of one's own, and groups of users",
        """
CREATE TABLE roles (
    name       TEXT PRIMARY KEY,  -- not one of the built-in ones
    privileges TEXT NOT NULL,     -- their names, with spaces between
    comment    TEXT NOT NULL      -- free text
) STRICT, WITHOUT ROWID;

CREATE TABLE user_groups (
    name    TEXT PRIMARY KEY,  -- without the @ that marks it in rules
    comment TEXT NOT NULL      -- free text
) STRICT, WITHOUT ROWID;

CREATE TABLE user_group_members (
    name    TEXT NOT NULL REFERENCES user_groups (name) ON DELETE CASCADE,  -- of the group
    auth_id TEXT NOT NULL REFERENCES users (auth_id) ON DELETE CASCADE,     -- a user in it
    PRIMARY KEY (name, auth_id)
) STRICT, WITHOUT ROWID;
""",
    ),
    Migration(
        7,
        "how people log in",
        """
CREATE TABLE logins (
    auth_id   TEXT PRIMARY KEY REFERENCES users (auth_id) ON DELETE CASCADE,  -- user@realm
    password  TEXT NOT NULL,     -- Argon2id in its usual form; '' for none
    totp      BLOB NOT NULL,     -- secret of the second factor, sealed under the server key; empty for none
    totp_step INTEGER NOT NULL,  -- the last step whose code was used
    recovery  TEXT NOT NULL      -- digests of the recovery codes that are left, with spaces between
) STRICT, WITHOUT ROWID;
""",
    ),
    Migration(
        8,
        "other servers that this one copies from and to",
        """
CREATE TABLE remotes (
    name        TEXT PRIMARY KEY,    -- what it is called here
    host        TEXT NOT NULL,       -- name or address
    port        INTEGER NOT NULL,    -- of its API
    auth_id     TEXT NOT NULL,       -- as whom
    sealed      BLOB NOT NULL,       -- the token's secret, encrypted
    fingerprint TEXT NOT NULL,       -- of its certificate, pinned
    comment     TEXT NOT NULL,       -- for people
    signer      TEXT NOT NULL,       -- key it signs manifests with, hex, pinned; '' before the first contact
    contact_ns  INTEGER,             -- last contact that came about; NULL: none yet
    trouble     TEXT NOT NULL        -- what the last one failed with; ''
) STRICT, WITHOUT ROWID;
""",
    ),
    Migration(
        9,
        "what was sent to notification targets is kept once a message, not once an event",
        """
CREATE TABLE notification_messages (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order
    target  TEXT NOT NULL,                      -- whom it was for
    chars   INTEGER NOT NULL,                   -- of the payload before it was cut
    command TEXT NOT NULL,                      -- sends the payload again; '' for none
    payload TEXT NOT NULL                       -- its beginning, without secrets
) STRICT;

CREATE INDEX notification_messages_by_target ON notification_messages (target, id);

ALTER TABLE notification_outbox DROP COLUMN payload;

ALTER TABLE notification_outbox DROP COLUMN command;

ALTER TABLE notification_outbox ADD COLUMN message INTEGER NOT NULL DEFAULT 0;  -- what was last sent; 0 for nothing
""",
    ),
    Migration(
        10,
        "sync jobs: what is brought from which remote by itself",
        """
CREATE TABLE sync_jobs (
    name        TEXT PRIMARY KEY,    -- chosen by people, never another
    spec        TEXT NOT NULL,       -- JSON: wire.sync.SyncSpec
    enabled     INTEGER NOT NULL,    -- 0: not by itself
    changed_ns  INTEGER NOT NULL,    -- when it was last changed, ns since the epoch
    changed_by  TEXT NOT NULL,       -- auth-id
    last_run_ns INTEGER,             -- NULL: never
    next_run_ns INTEGER,             -- NULL: not by itself
    last_upid   TEXT NOT NULL        -- task of the last run; '' for none
) STRICT;
""",
    ),
    Migration(
        11,
        "wrong logins are counted across restarts",
        """
CREATE TABLE login_failures (
    kind    TEXT NOT NULL,       -- 'user' or 'peer'
    name    TEXT NOT NULL,       -- auth-id that was tried, or address it came from
    count   INTEGER NOT NULL,    -- wrong logins in a row
    last_ns INTEGER NOT NULL,    -- the last one
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
""",
    ),
    Migration(
        12,
        "when a data key was last used for a backup",
        """
ALTER TABLE data_keys ADD COLUMN last_seen_ns INTEGER;  -- last backup with it in this scope; NULL: none yet
""",
    ),
)


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration] = MIGRATIONS) -> int:
    """Bring the schema up to the last of `migrations`; return how many steps ran. To be called in a transaction.

    Raises ConflictError, changing nothing, when the file is newer than this program or not ours.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    owner = int(connection.execute("PRAGMA application_id").fetchone()[0])
    known = len(migrations)
    if version > known:
        raise ConflictError(
            f"the state was written by a newer program: its schema is {version}, this program knows {known}",
            hint="install the newer version again, or give another state folder",
        )
    tables = int(connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])
    if (version or tables) and owner != APPLICATION_ID:
        raise ConflictError("the database is not a state of this program", hint="give another state folder")
    for migration in migrations[version:]:
        for statement in statements(migration.sql):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {migration.number}")
    if owner != APPLICATION_ID:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    return known - version


def statements(sql: str) -> Iterator[str]:
    """Split a script into whole statements, comments kept: `executescript` would commit the open transaction."""
    statement = ""
    for line in sql.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement.strip()
            statement = ""
    if statement.strip():
        raise ValueError("the script ends inside a statement")
