-- Timestamps are microseconds since the Unix epoch, UTC: select datetime(batch_at / 1000000, 'unixepoch').

-- The registry. Rows are archived, never deleted: batches refer to them for ever.
CREATE TABLE llms (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT    NOT NULL UNIQUE CHECK (name <> ''),
    creator     TEXT    NOT NULL CHECK (creator <> ''),
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    archived_at INTEGER
) STRICT;

CREATE TABLE metrics (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    title       TEXT    NOT NULL UNIQUE CHECK (title <> ''),
    unit        TEXT    NOT NULL CHECK (unit <> ''),
    lower_bound REAL    NOT NULL,
    upper_bound REAL    NOT NULL,
    better      TEXT    NOT NULL CHECK (better IN ('lower', 'higher')),
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    archived_at INTEGER,
    -- SQLite stores NaN as NULL; 9e999 is its way to write infinity.
    CONSTRAINT bounds_are_finite CHECK (lower_bound > -9e999 AND upper_bound < 9e999),
    CONSTRAINT bounds_are_ordered CHECK (lower_bound < upper_bound)
) STRICT;

-- The events. Never updated, never deleted; everything else can be recomputed from them.
CREATE TABLE batches (
    id          BLOB    PRIMARY KEY CHECK (length(id) = 16),
    llm_id      INTEGER NOT NULL REFERENCES llms,
    metric_id   INTEGER NOT NULL REFERENCES metrics,
    source      TEXT    NOT NULL CHECK (source IN ('simulated', 'measured', 'imported')),
    run_id      TEXT,
    -- Unsigned 64-bit numbers, bit for bit: 2^63 and above show as negative.
    seed        INTEGER,
    sequence    INTEGER,
    -- When the values were measured.
    batch_at    INTEGER NOT NULL,
    -- BLAKE3 over the content: tells a redelivery from another batch under the same id.
    checksum    BLOB    NOT NULL CHECK (length(checksum) = 32),
    recorded_at INTEGER NOT NULL,
    -- Little-endian IEEE 754 doubles, 8 bytes each. The last column: what is before it is read without its pages.
    data_points BLOB    NOT NULL CHECK (length(data_points) > 0 AND length(data_points) % 8 = 0)
) STRICT;
-- The archive's pages, newest first, and the order of a rebuild.
CREATE INDEX batches_newest_first ON batches (batch_at DESC, id DESC);

-- What is stored and not yet confirmed by the broker. Without payload: the batch's row has it.
CREATE TABLE outbox (
    batch_id    BLOB    PRIMARY KEY REFERENCES batches,
    recorded_at INTEGER NOT NULL,
    -- When a sweeper last took it.
    claimed_at  INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_oldest_first ON outbox (recorded_at, batch_id);

-- The batches that are counted. An id enters in the transaction that folds it into the statistics.
CREATE TABLE ledger (
    batch_id   BLOB    PRIMARY KEY REFERENCES batches,
    counted_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Running statistics per key and period: a pure function of the batches in the ledger.
CREATE TABLE statistics (
    llm_id     INTEGER NOT NULL REFERENCES llms,
    metric_id  INTEGER NOT NULL REFERENCES metrics,
    source     TEXT    NOT NULL CHECK (source IN ('simulated', 'measured', 'imported')),
    -- Hours since the Unix epoch; -2^63 for all time.
    period     INTEGER NOT NULL,
    -- For readers of SQL, who cannot decode the state.
    n          INTEGER NOT NULL,
    -- Value of statistics_revision.revision in the transaction that wrote the row.
    revision   INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    -- statistics::RunningStatistics::to_bytes
    state      BLOB    NOT NULL,
    PRIMARY KEY (llm_id, metric_id, source, period)
) STRICT;
CREATE INDEX statistics_by_revision ON statistics (revision);

-- `generation` grows with each rebuild, so that readers know when to start over; `revision` with each transaction
-- that changes statistics. There is one writer at a time, so revisions are committed in their order.
CREATE TABLE statistics_revision (
    only_row   INTEGER PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    generation INTEGER NOT NULL,
    revision   INTEGER NOT NULL
) STRICT;
INSERT INTO statistics_revision (generation, revision) VALUES (1, 0);

CREATE TABLE simulation_seed (
    only_row INTEGER PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    seed     INTEGER NOT NULL
) STRICT;
CREATE TABLE simulation_ticks (
    seed      INTEGER PRIMARY KEY,
    next_tick INTEGER NOT NULL
) STRICT;

-- Never the secret, only its keyed hash.
CREATE TABLE api_keys (
    id         TEXT    PRIMARY KEY,
    name       TEXT    NOT NULL,
    scope      TEXT    NOT NULL CHECK (scope IN ('read', 'write', 'admin')),
    hash       BLOB    NOT NULL CHECK (length(hash) = 32),
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
) STRICT;
