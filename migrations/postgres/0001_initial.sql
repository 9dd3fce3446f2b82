-- The registry. Rows are archived, never deleted: batches refer to them for ever.
CREATE TABLE llms (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text        NOT NULL UNIQUE CHECK (name <> ''),
    creator     text        NOT NULL CHECK (creator <> ''),
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    archived_at timestamptz
);

CREATE TABLE metrics (
    id          bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    title       text             NOT NULL UNIQUE CHECK (title <> ''),
    unit        text             NOT NULL CHECK (unit <> ''),
    lower_bound double precision NOT NULL,
    upper_bound double precision NOT NULL,
    better      text             NOT NULL CHECK (better IN ('lower', 'higher')),
    created_at  timestamptz      NOT NULL,
    updated_at  timestamptz      NOT NULL,
    archived_at timestamptz,
    -- NaN is greater than every number here, so this leaves exactly the finite ones.
    CONSTRAINT bounds_are_finite CHECK (lower_bound > '-infinity' AND upper_bound < 'infinity'),
    CONSTRAINT bounds_are_ordered CHECK (lower_bound < upper_bound)
);

-- The events. Never updated, never deleted; everything else can be recomputed from them.
--
-- Batches, outbox and ledger have no foreign keys: each would cost a query and a row lock per batch, and rows are only
-- ever inserted by statements that join what they refer to, which is never deleted.
CREATE TABLE batches (
    id          uuid               PRIMARY KEY,
    llm_id      bigint             NOT NULL,
    metric_id   bigint             NOT NULL,
    source      text               NOT NULL CHECK (source IN ('simulated', 'measured', 'imported')),
    run_id      text,
    -- Unsigned 64-bit numbers, bit for bit: 2^63 and above show as negative.
    seed        bigint,
    sequence    bigint,
    -- When the values were measured.
    batch_at    timestamptz        NOT NULL,
    data_points double precision[] NOT NULL CHECK (cardinality(data_points) > 0),
    -- BLAKE3 over the content: tells a redelivery from another batch under the same id.
    checksum    bytea              NOT NULL CHECK (octet_length(checksum) = 32),
    recorded_at timestamptz        NOT NULL DEFAULT now()
);
-- Random doubles do not compress; trying costs more than the rest of an insert.
ALTER TABLE batches ALTER COLUMN data_points SET STORAGE EXTERNAL;
-- The archive's pages, newest first, and the order of a rebuild.
CREATE INDEX batches_newest_first ON batches (batch_at DESC, id DESC);

-- What is stored and not yet confirmed by the broker. Without payload: the batch's row has it.
CREATE TABLE outbox (
    batch_id    uuid        PRIMARY KEY,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    -- When a sweeper last took it; not indexed, so that a claim is a heap-only update.
    claimed_at  timestamptz
);
CREATE INDEX outbox_oldest_first ON outbox (recorded_at, batch_id);

-- The batches that are counted. An id enters in the transaction that folds it into the statistics.
CREATE TABLE ledger (
    batch_id   uuid        PRIMARY KEY,
    counted_at timestamptz NOT NULL DEFAULT now()
);

-- Running statistics per key and period: a pure function of the batches in the ledger.
CREATE TABLE statistics (
    llm_id     bigint      NOT NULL REFERENCES llms,
    metric_id  bigint      NOT NULL REFERENCES metrics,
    source     text        NOT NULL CHECK (source IN ('simulated', 'measured', 'imported')),
    -- Hours since the Unix epoch; -2^63 for all time.
    period     bigint      NOT NULL,
    -- statistics::RunningStatistics::to_bytes
    state      bytea       NOT NULL,
    -- For readers of SQL, who cannot decode the state.
    n          bigint      NOT NULL,
    -- The transaction that wrote the row; see storage/postgres/src/changes.rs.
    revision   xid8        NOT NULL DEFAULT pg_current_xact_id(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (llm_id, metric_id, source, period)
);
ALTER TABLE statistics ALTER COLUMN state SET STORAGE EXTERNAL;
CREATE INDEX statistics_revision ON statistics (revision);

-- Grows with each rebuild, so that readers know when to start over.
CREATE TABLE statistics_generation (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    generation bigint  NOT NULL
);
INSERT INTO statistics_generation (generation) VALUES (1);

CREATE TABLE simulation_seed (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    seed     bigint  NOT NULL
);
CREATE TABLE simulation_ticks (
    seed      bigint PRIMARY KEY,
    next_tick bigint NOT NULL
);

-- Never the secret, only its keyed hash.
CREATE TABLE api_keys (
    id         text        PRIMARY KEY,
    name       text        NOT NULL,
    scope      text        NOT NULL CHECK (scope IN ('read', 'write', 'admin')),
    hash       bytea       NOT NULL CHECK (octet_length(hash) = 32),
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz
);
