"""Every bound of the product by name: queues, bodies, retries, counts. Units last in names.

Pure data; importable by everyone from `core` upwards. A limit that belongs to an on-disk or wire format
is part of that format's version (see contrib/docs/formats.md) and marked so.
"""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

# --- formats, version 1 (promises) ---
CHUNK_PLAIN_BYTES_MAX = 4 * MIB
TREE_CHUNK_BYTES_MIN = 256 * KIB
TREE_CHUNK_BYTES_AVG = 1 * MIB
TREE_CHUNK_BYTES_MAX = 4 * MIB
IMAGE_CHUNK_BYTES = 4 * MIB
SMALL_FILE_BYTES_MAX = 1 * MIB
"""Files up to this size are packed together; larger ones start their own chunk run."""
METADATA_BLOCK_BYTES_MIN = 64 * KIB
METADATA_BLOCK_BYTES_MAX = 1 * MIB
"""A block is closed at the first entry boundary at or past this; one entry may exceed it by its own size."""
ENTRY_EXTENTS_MAX = 1024
"""Extents in one entry; a larger file goes on in continuation entries of the same path."""
ENTRY_XATTR_BYTES_MAX = 256 * KIB
ENTRY_RANGES_MAX = 64 * KIB
"""Data ranges of one file; a writer that finds more fills the smallest holes."""
FILE_EXTENTS_MAX = 1 << 24
"""Extents of one file over all its continuations: 16 TiB at the average chunk."""
PATH_BYTES_MAX = 256 * KIB
METADATA_BLOCK_PATH_BYTES_MAX = 32 * MIB
"""Full paths of one block's entries, summed: what front coding may unfold to. A block is closed at or past this."""
METADATA_BLOCK_ENTRIES_MAX = 64 * KIB
"""More than fit into METADATA_BLOCK_BYTES_MAX: the smallest entry takes 23 bytes."""
FILE_SYSTEMS_PER_BLOCK_MAX = METADATA_BLOCK_ENTRIES_MAX
NODE_CHILDREN_MAX = 1024
TREE_DEPTH_MAX = 8
NODE_CHILDREN_MIN = 64
NODE_BYTES_MAX = METADATA_BLOCK_BYTES_MAX + PATH_BYTES_MAX + 64
"""A node is closed at or past METADATA_BLOCK_BYTES_MAX; its last child may exceed that by its own size."""
INDEX_RECORDS_MAX = 1 << 32
MANIFEST_BYTES_MAX = 4 * MIB
MANIFEST_ARCHIVES_MAX = 256
SNAPSHOT_BLOB_BYTES_MAX = 16 * MIB
MANIFEST_BLOBS_MAX = 256
MANIFEST_STATS_MAX = 64
MANIFEST_TEXT_CHARS_MAX = 1024
"""One text field of manifest.json, manifest.sig or owner.json."""
SIGNATURE_BYTES_MAX = 4 * KIB
STATE_BYTES_MAX = 256 * KIB
"""state.json and owner.json."""

# --- names ---
NAME_CHARS_MAX = 64
NAMESPACE_DEPTH_MAX = 8

# --- requests ---
CHUNK_BODY_BYTES_MAX = CHUNK_PLAIN_BYTES_MAX + 64 * KIB
"""One upload body: one whole chunk, or several small ones."""
JSON_BODY_BYTES_MAX = 8 * MIB
RECORDS_BODY_BYTES_MAX = 4 * MIB
FETCH_IDS_MAX = 64
"""Chunks asked for in one batch download."""
CONNECTIONS_MAX = 1024
"""An agent that waits for orders takes one, and about 0.3 MB of memory with it."""
UNAUTHENTICATED_CONNECTIONS_MAX = 64
TLS_HANDSHAKE_SECONDS_MAX = 10
LIST_ROWS_MAX = 10_000
UNAUTHENTICATED_PER_PEER_MAX = 32
"""Of one address. A caller is known some milliseconds after it has connected."""
UNAUTHENTICATED_SECONDS_MAX = 15
"""From the first packet until a request was authenticated; what takes longer is cut off."""
HTTP_HEAD_BYTES_MAX = 64 * KIB
HTTP_IDLE_SECONDS_MAX = 60
"""Between two requests of a connection, the head of the next one included."""
HTTP_LINGER_SECONDS_MAX = 2.0
HTTP_LINGER_BYTES_MAX = 16 * MIB
"""What a peer may still send after it was answered, so that it reads the answer."""
BODY_STALL_SECONDS_MAX = 60
BODY_BYTES_PER_SECOND_MIN = 4 * KIB
"""A request body may take BODY_STALL_SECONDS_MAX longer than this rate needs."""
SEND_PIECE_BYTES = 512 * KIB
SEND_PIECE_SECONDS_MAX = 120
"""A peer that takes less than one piece in this time is cut off."""
FETCH_HELD_BYTES = 8 * MIB
"""So much of an HTTP download is read before it begins, so that what is wrong with it can still be told."""
FETCH_ANSWER_BYTES_MAX = 32 * MIB
"""Blobs in one answer of the data plane, which says its length first and therefore holds all of it."""
PLANE_IDLE_SECONDS_MAX = 600
"""Between two requests of a data-plane connection."""
PATH_PART_CHARS_MAX = 1024

# --- sessions ---
SESSIONS_PER_STORE_MAX = 64
DATASTORE_OPENING_SECONDS_MAX = 15.0
READERS_PER_STORE_MAX = 256
SESSION_IDLE_SECONDS_MAX = 120
SESSION_HEARTBEAT_SECONDS = 20
SESSION_SUPERSEDE_IDLE_SECONDS = 25
"""A session of the same identity that was silent this long (a live client is heard more often) may be taken over."""
SESSION_SENDS_MAX = 8
"""Bodies of one session worked on at once; more wait."""
SESSIONS_FINISHED_KEPT = 256
"""Results of ended sessions remembered, for a commit asked again after its answer was lost."""
SNAPSHOT_BLOBS_MAX = 16
BODY_BLOBS_MAX = 1024
"""Chunks in one upload body."""
INDEX_FILE_BYTES_MAX = 1 * GIB
"""27 million chunks of a tree; looked at piece by piece, eight bytes of memory a chunk."""
PRESENCE_BATCH_IDS = 4096
SNAPSHOTS_REMEMBERED = 4096
"""Decoded manifests kept in memory, a store."""
DISCARD_BATCH_CHUNKS = 256
READER_IDLE_SECONDS_MAX = 900
READER_READS_MAX = 4
"""Requests of one reader that read at once; more wait."""
READER_RUN_CHUNKS = 16
READER_RUN_BYTES = 4 * MIB
"""Read one after the other in one thread, for one request."""
VERIFY_READS_MAX = 4
VERIFY_BAD_CHUNKS_LISTED = 1000
STORE_VOUCHED_MAX = 100_000
"""Chunks that one store remembers as compared in this process; some 150 bytes each."""
VERIFY_HOP_CHUNKS = 32
"""Chunks that one thread reads in one turn; they are asked of the disk together."""
VERIFY_HOP_CHUNKS_THROTTLED = 4
VERIFY_LOOK_CHUNKS = 1024
"""Chunks whose earlier checks are looked up at once."""
VERIFY_SEEN_IDS_MAX = 1_000_000
"""Chunks that one run remembers in memory as good, beside the ledger."""
VERIFY_WINDOW_DAYS = 30
VERIFY_WINDOW_DAYS_MAX = 3650
VERIFY_SNAPSHOTS_MAX = 16
"""Snapshots that one run verifies side by side."""
VERIFY_SCANS_MAX = 16
"""Times that one run searches all indexes for whom bad chunks hurt when it finds them; then once more at its end."""
INTERRUPTED_SESSION_KEEP_SECONDS = 24 * 3600
GC_SHARE_PERCENT = 30
"""A garbage collection that would take more of all chunks stops, unless it was allowed more."""
GC_TRASH_GRACE_SECONDS = 24 * 3600
GC_BATCH_CHUNKS = 256
"""Retired at once; sessions that announce a chunk wait for so many."""
GC_RECLAIM_CHUNKS = 2048
GC_STEP_BYTES = 32 * MIB
GC_STEP_INDEXES = 64
"""One step of marking, between which a run can be paused or stopped, ends after one of these."""
GC_CHUNK_IO_BYTES = 16 * KIB
"""What a chunk that is moved or deleted counts under an I/O limit."""
GC_ABSENT_MAX = 200_000
GC_MISSING_LISTED = 1000
GC_SHORT_SHARE = 20
GC_SHORT_BYTES_MAX = 4 * GIB
GC_SHORT_INODES_MAX = 100_000
"""Trash is skipped when less than 1/20 of the file system, or these figures where they are smaller, are free."""
GC_PROGRESS_SECONDS = 1.0
GC_LOG_SECONDS = 60.0
RACY_WINDOW_NS = 2_000_000_000
FULL_REREAD_EVERY_RUNS = 30

# --- process ---
MAILBOX_SLOTS = 64
BUS_SUBSCRIBER_SLOTS = 1024
ASK_SECONDS_MAX = 10.0
LOOP_STALL_SECONDS = 0.050
RESTART_BACKOFF_SECONDS_MIN = 0.5
RESTART_BACKOFF_SECONDS_MAX = 30.0
RESTARTS_BEFORE_FAILED = 10
STOP_GRACE_SECONDS = 20.0
POOL_DISK_THREADS = 8
POOL_CPU_THREADS = 2
POOL_TALK_THREADS = 8
WORKER_SLOTS_DEFAULT = 4
WORKER_SLOTS_MAX = 64
WORKER_QUEUE_MAX = 1000
TASK_LOG_LINES_MAX = 1_000_000
LOG_FILE_BYTES_MAX = 32 * MIB
LOG_FILES_KEPT = 8

# --- restore ---
RESTORE_READAHEAD_BYTES = 64 * MIB
"""Plaintext of chunks asked for or waiting to be written; the window of a restore."""
RESTORE_CACHE_BYTES = 32 * MIB
"""Chunks already used that a later file may want again."""
RESTORE_METADATA_CACHE_BYTES = 16 * MIB
RESTORE_METADATA_AHEAD = 8
"""Metadata blocks asked for before they are needed."""
RESTORE_FETCH_BYTES = 4 * MIB
"""Plaintext asked for in one request; one chunk may exceed it."""
RESTORE_FETCHES = 4
RESTORE_WRITES = 4
"""Threads that write, at most; as few as one when the processor is the limit."""
RESTORE_JOB_BYTES = 8 * MIB
RESTORE_JOB_CHUNK_BYTES = 16 * MIB
RESTORE_JOB_ENTRIES = 512
RESTORE_JOBS_MAX = 64
RESTORE_ENTRIES_BATCH = 1024
RESTORE_ENTRIES_BYTES = 1 * MIB
"""Paths, attributes and extents of the entries handed on together, or held by one job; one entry may exceed it."""
RESTORE_OPEN_FOLDERS_MAX = 128
RESTORE_LOST_PATHS_MAX = 500_000
"""Entries remembered as not restored, so that no hard link is made to something else of their name."""
RESTORE_REPORT_PATHS_MAX = 100
"""Paths kept by reason in a report; the rest is counted."""
RESTORE_RETRIES = 6
RESTORE_KEEP_ALIVE_SECONDS = 240.0
"""A restore whose target takes nothing for long (a paused pipe) asks for a chunk this often, to keep its lease."""
RESTORE_CLEANUP_SECONDS = 60.0
RESTORE_CLOSE_SECONDS = 10.0
"""For telling the server how a failed or cancelled restore ended."""
RESTORE_LIVE_PERCENT_MIN = 80
"""At least so much of an archive's chunks is in use; tells whether a target can hold it before anything is written."""
SPARSE_RUN_BYTES = 64 * KIB
"""Zero runs of a sparse file are left as holes from this size up, aligned to it."""
SYSCALL_PATH_BYTES = 4000
"""One path handed to the kernel; longer ones are walked in pieces (PATH_MAX is 4096)."""

# --- local store ---
STORE_RECEIVED_CHUNKS_MAX = 8192
STORE_RECEIVED_BYTES_MAX = 8 * GIB
"""Received without a barrier; a writer that would exceed one of these runs a barrier first. After an unclean stop
so much is read again before the store opens."""
STORE_DB_BATCH_ROWS = 512
STORE_DISCARD_BATCH_CHUNKS = 64
STORE_SCAN_ROWS = 8192
STORE_RETIRE_BATCH_CHUNKS = 256
STORE_TRASH_SINCE_GRAIN_SECONDS = 60
"""How exactly an epoch of trash remembers when its last chunk came."""
STORE_MARKS_MAX = 1_000_000
"""Bad, missing and suspect chunks kept in memory; a store with more takes no writes until it is repaired."""
STORE_FLOOR_BYTES_MAX = 64 * MIB
STORE_FLOOR_INODES_MAX = 1024
STORE_FLOOR_SHARE = 100
"""Writers stop at 1/100 of the file system, or at the figures above where smaller; never below the reserve."""
STORE_SPACE_GRANT_BYTES_MAX = 256 * MIB
"""Writers look at the file system's free space again after this much, or after a quarter of what was free."""
STORE_RESERVE_BYTES_MAX = 16 * MIB
STORE_RESERVE_SHARE = 50
"""The reserve is 1/50 of the file system, or the figure above where that is smaller."""
STORE_RESERVE_INODES = 16
STORE_RECORD_BYTES_MAX = 64 * KIB
STORE_STATE_BYTES_MAX = 1 * MIB
STORE_FOLDERS_SEARCHED_MAX = 100_000

# --- the store's clock, bin, retention ---
CLOCK_JUMP_SECONDS_MAX = 3600
"""How far the wall clock may move away from what was counted before everything that expires waits."""
CLOCK_KEEP_SECONDS = 300
"""How often a running clock is written to the store."""
BIN_GRACE_SECONDS = 7 * 86_400
RETENTION_KEEP_MAX = 100_000
PRUNE_KEPT_SHARE = 10
"""Pruning stops when the largest snapshot that would stay has under 1/10 of one that would go."""
RETENTION_NAMESPACES_MAX = 1000
PRUNE_UNIQUE_CHUNKS_MAX = 8_000_000
"""References of snapshots that would go, up to which the bytes that only they need are counted."""

# --- server state ---
STATE_READERS = 2
STATE_BUSY_SECONDS_MAX = 5.0
"""How long SQLite waits for another process (a copy of the state being taken) before it gives up."""
COMMENT_CHARS_MAX = 1024
MODE_DRAIN_SECONDS = 300
"""How long work under way may go on when a datastore goes into maintenance."""
MODE_DRAIN_SECONDS_MAX = 86_400
MODE_END_SECONDS = 30
USAGE_PASS_CHUNKS = 4_000_000
"""Chunks whose owners are counted in one pass over the indexes; some 30 bytes each."""
GROWTH_DAYS_KEPT = 400
GROWTH_DAYS_FITTED = 30
GROWTH_DAYS_MIN = 3
GROWTH_DAYS_FORETOLD = 3650
REINDEX_PREFIXES = 256
"""Chunk folders that one step of rebuilding the index looks at."""
MESSAGE_CHARS_MAX = 4096
INBOX_ROWS_MAX = 10_000
TASKS_KEPT_MAX = 50_000
"""Ended tasks, with their logs; the oldest go first."""
TASKS_OPEN_MAX = 4096
TASK_LOG_TEXT_CHARS_MAX = 8192
TASK_LOG_WAITING_LINES_MAX = 10_000
"""Lines of one task waiting for the disk; what comes on top is counted, not kept."""
TASK_STAGES_MAX = 32
TASK_LOG_READ_BYTES = 256 * KIB
TASK_SAVE_SECONDS = 1.0
"""How often running figures are written to the state."""
USERS_MAX = 10_000
TOKENS_MAX = 10_000
ACL_RULES_MAX = 10_000
TOKEN_LAST_USED_SECONDS = 60
"""Grain of the last-used time of a token."""
AUTH_FAILURES_MAX = 10
"""Wrong credentials from one address within the window; more are refused without being told about one by one."""
AUTH_FAILURE_WINDOW_SECONDS = 60
AUTH_PEERS_MAX = 4096
AUTHORIZATION_CHARS_MAX = 1024

# --- readers ---
TREE_NODES_CACHED_MAX = 16
"""Nodes that one tree reader keeps decoded, at most about 4 MiB each."""

# --- supervision, logs, schedule ---
RESTART_HEALTHY_SECONDS = 60.0
"""A service that ran this long starts again with the shortest back-off."""
SERVICE_START_SECONDS_MAX = 30.0
RESTART_ANSWER_SECONDS = 0.5
"""What the api role gets to answer the request that restarts it."""
STOP_RANK_SECONDS_MIN = 2.0
"""Services that stop after the others have at least this long, even when those used up the grace."""
LOG_QUEUE_LINES_MAX = 10_000
LOG_LINE_CHARS_MAX = 64 * KIB
LOG_DRAIN_SECONDS_MAX = 3.0
"""What a server that is told twice to stop waits at most for its last log lines."""
LOCK_SHARDS = 256
STALL_REPORT_SECONDS = 1.0
"""At most one stall is reported in this time; all are counted."""

# --- tasks and events ---
TASK_ID_BYTES_MAX = 1024
UPID_CHARS_MAX = 4096
EVENT_TEXT_CHARS_MAX = 4096
EVENT_FIELDS_MAX = 64

# --- backup pipeline ---
BACKUP_SEGMENTS = 6
"""Read buffers in flight; together with BACKUP_SEGMENT_BYTES the bound of plaintext held."""
BACKUP_SEGMENT_BYTES = 16 * MIB
BACKUP_BATCH_BYTES = 4 * MIB
"""Chunk bytes handed over by the reading thread at once."""
BACKUP_BATCH_ENTRIES = 2048
BACKUP_JOB_BYTES = 2 * MIB
"""Plaintext hashed, compressed and encrypted in one turn of a thread."""
BACKUP_JOBS_WAITING = 4
BACKUP_BATCHES_WAITING = 16
BACKUP_SENDERS = 6
"""Bodies under way at once: on a line of 200 Mbit/s with 150 ms round trip it takes so many of full size to fill it."""
BACKUP_BODIES_WAITING = 4
BACKUP_BODY_BYTES = 5 * MIB // 2
"""Blobs that wait are put together until a body has this size, so that bodies grow where the line is slow."""
BACKUP_HELD_ENTRIES = 16_384
"""Entries that may wait for the chunk of a small file before that chunk is cut short."""
BACKUP_REPORT_SECONDS = 2.0
BACKUP_PROGRESS_SECONDS = 0.25
BACKUP_NOTES_MAX = 10_000
"""Lines of one backup kept for the task log; more are counted."""
BACKUP_REPORT_LINES = 500
BACKUP_ABORT_SECONDS = 10.0
BASE_CHUNKS_AHEAD = 7
"""Metadata chunks of the previous snapshot fetched together with the one that is wanted."""
BASE_CHUNKS_KEPT = 24
LINKS_MEMORY_MAX = 100_000
"""Inodes with several names kept in memory while their other names are looked for; more go to a temporary file."""
RECORDS_MEMORY_BYTES = 8 * MIB
"""Index records kept in memory for their digest; more go to an unlinked temporary file."""
REPACK_LIVE_PERCENT = 30
"""A chunk that is used less than this may be packed anew."""
REPACK_WASTE_PERCENT = 10
"""Nothing is packed anew while less than this share of an archive's chunk bytes is waste."""
REPACK_READ_PERCENT = 5
"""Share of an archive's chunk bytes that is read to be packed anew in one run, at most."""
REPACK_LOOK_EVERY_RUNS = 10
SURVEY_EXTENTS_MAX = 1_000_000
"""Extents kept at once while it is counted which bytes of a chunk are in use; about 100 bytes each while sorted."""
CHANGE_MAP_BYTES_MAX = 64 * MIB
"""Largest map of changes of an image; about 700,000 extents as QEMU prints them."""
IMAGE_SAMPLE_CHUNKS = 8
"""Chunks that a map calls unchanged and that are read and compared all the same, unless a share was asked for."""

# --- services ---
SCHEDULE_LOOK_SECONDS_MAX = 60.0
SCHEDULE_CHARS_MAX = 200
SCHEDULES_PER_STORE_MAX = 256
"""How long the scheduler sleeps at most before it looks at the wall clock again."""
NOTIFY_RETRY_SECONDS = 5.0
SESSION_HINTS_MAX = 4096
VERIFY_PROGRESS_CHUNKS = 16

# --- identities and certificates ---
PRIVATE_FILE_BYTES_MAX = 64 * KIB
CONNECT_SECONDS_MAX = 30.0
"""From the first packet to the end of the TLS handshake."""

# --- HTTP client ---
HTTP_CONNECTIONS = 8
HTTP_TRIES_MAX = 5
"""Times a repeatable request is tried when connections break."""
HTTP_ANSWER_SECONDS_MAX = 900.0
"""Longest silence of the server within one answer: a commit waits for the disk below the datastore."""
HTTP_WRITE_SECONDS_MAX = 120.0

# --- metrics ---
METRICS_SERIES_MAX = 5000
"""Label values of one family that come from data (namespaces, groups, kinds); more are left out or counted as other."""
METRICS_SURVEY_SECONDS = 10.0
"""Datastores are looked at no more often than this, nor than METRICS_SURVEY_SHARE allows, however often one asks."""
METRICS_SURVEY_SHARE = 20
"""Looking takes at most 1/20 of the time."""
METRICS_FIRST_WAIT_SECONDS = 5.0
METRICS_ASK_SECONDS_MAX = 2.0
METRICS_RUNS_LOOKED_AT = 500
METRICS_DELAY_SAMPLE_SECONDS = 5.0

# --- hosts and agents ---
HOSTS_MAX = 500
HOST_NAME_CHARS_MAX = 58
"""The agent's user is called agent-NAME, which has to fit an auth-id."""
HOST_TAGS_MAX = 32
JOIN_SECONDS_MAX = 7 * 86_400
"""How long a join token may be valid at most."""
JOIN_BODY_BYTES_MAX = 8 * KIB
AGENT_TEXT_CHARS_MAX = 200
"""What an agent says of its version and system."""
AGENT_POLL_SECONDS = 20.0
"""How long the server keeps a poll that it has no orders for."""
AGENT_GAP_SECONDS = 10.0
"""An agent without a poll that was not heard for this long is silent; it waits as long beyond a poll's time."""
AGENT_GRACE_SECONDS = 60.0
"""An agent that was not heard for this long loses its tasks."""
AGENT_GRACE_SECONDS_MAX = 3600.0
AGENT_GRACE_SECONDS_MIN = 3.0
AGENT_BACKOFF_SECONDS_MIN = 0.5
AGENT_BACKOFF_SECONDS_MAX = 15.0
AGENT_CONTACT_SECONDS = 60.0
"""Grain of the kept time of an agent's last contact."""
AGENT_WATCH_SECONDS = 2.0
AGENT_RUNS_MAX = 16
"""Tasks that one agent has in hand at once; the server's slots are the real bound."""
AGENT_LOSSES_MAX = 3
"""Times an agent may forget a task that it had begun, by being restarted for example."""
AGENT_WRAP_UP_SECONDS = 10.0
"""How long the end of a task waits for the agent's own words once the snapshot is there."""
AGENT_STATUS_SECONDS = 10.0
AGENT_CONFIG_BYTES_MAX = 1 * MIB
HOOK_SECONDS_MAX = 3600
HOOK_OUTPUT_LINES_MAX = 200

# --- mirrors of roles ---
MIRRORS_MAX = 32
MIRROR_LINES_KEPT = 200
"""Lines of a role that its first mirror still gets, from before it came."""
MIRROR_LINES_WAITING = 2000
MIRROR_HELLO_SECONDS_MAX = 10.0
MIRROR_BYE_SECONDS_MAX = 1.0
MIRROR_WORD_BYTES_MAX = 1024

# --- jobs and the worker's queue ---
JOBS_MAX = 2000
JOB_HOSTS_MAX = 500
"""Hosts that one job comes to."""
JOB_WORDS_MAX = 64
"""Items in one list of a job's, such as sources or tags."""
JOB_RETRIES_MAX = 10
JOB_RETRY_SECONDS = 30.0
"""Before the second attempt; doubled before each further one."""
JOB_RETRY_SECONDS_MAX = 3600.0
JOB_DELAY_SECONDS_MAX = 86_400
JOB_CALENDAR_DAYS_MAX = 366
JOB_CALENDAR_ROWS_MAX = 2000
SCHEDULE_PREVIEW_MAX = 1000
WORKER_LOOK_SECONDS = 30.0
"""How long the worker's queue sleeps at most while tasks wait for a time."""
WORKER_SETTLE_SECONDS = 10.0
TASKS_KEEP_DAYS_MAX = 36_500
RETENTION_GROUPS_MAX = 20_000

# --- audit log, support bundles, watch over backups ---
AUDIT_LINE_BYTES_MAX = 64 * KIB
AUDIT_FILE_BYTES = 16 * MIB
"""A file of the audit log that has grown to this is followed by a new one."""
AUDIT_RESERVE_BYTES = 1 * MIB
"""Kept free beside the audit log, for what changes under way have to say when the disk gets full."""
AUDIT_VALUE_BYTES_MAX = 8 * KIB
AUDIT_TEXT_CHARS_MAX = 1000
AUDIT_REFUSALS_PER_MINUTE = 120
"""Refused and failed requests written singly in a minute; further ones are counted."""
AUDIT_KINDS_COUNTED_MAX = 256
AUDIT_COUNT_SECONDS = 60.0
AUDIT_PIECE_BYTES = 1 * MIB
BUNDLES_KEPT = 3
BUNDLE_TASKS_MAX = 100
BUNDLE_BYTES_MAX = 64 * MIB
"""Content of a bundle before it is compressed."""
BUNDLE_LOG_BYTES = 1 * MIB
BUNDLE_ROWS = 1000
BUNDLE_FAILED_TASKS = 50
BUNDLE_TASK_LINES = 5000
BUNDLE_FACT_CHARS = 64 * KIB
SLA_HISTORY = 30
SLA_LEARN_BACKUPS_MIN = 5
SLA_MISSING_TIMES = 3
"""A backup that is late by so many times what is allowed is missing."""
SLA_SIZE_SLACK_BYTES = 16 * MIB
"""Growth of this much is never suspicious by what was learned."""
SLA_RPO_SECONDS_MAX = 366.0 * 86_400
SLA_CHECK_SECONDS = 300.0
SLA_RULES_MAX = 5000
SLA_FAILED_TASKS = 1000
