-- Batches by when they were stored, for the reconciler. BRIN, because rows lie in about that order: a few bytes per
-- megabyte of table, and next to nothing per insert.
CREATE INDEX batches_recorded_at ON batches USING brin (recorded_at)
    WITH (pages_per_range = 32, autosummarize = on);

-- How far the reconciler has come: every batch that was recorded before is in the ledger or in `uncounted`.
CREATE TABLE reconciliation (
    only_row       boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    complete_until timestamptz NOT NULL
);
INSERT INTO reconciliation (complete_until) VALUES ('-infinity');

-- Batches that were overdue and therefore published once more.
CREATE TABLE uncounted (
    batch_id    uuid        PRIMARY KEY,
    -- How often it was requeued.
    attempts    integer     NOT NULL CHECK (attempts > 0),
    requeued_at timestamptz NOT NULL
);

-- What is kept. NULL: everything.
CREATE TABLE retention (
    only_row      boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    -- The start of the first hour whose batches are kept; never goes back. Statistics of earlier hours are final.
    retained_from timestamptz
);
INSERT INTO retention DEFAULT VALUES;

-- The transaction that counted the batch, for what has to be told apart by "counted before or after": see
-- storage/postgres/src/rebuild.rs. A bigint, because xid8 cannot have a BRIN index. Rows that are there already get this
-- migration's id.
ALTER TABLE ledger ADD COLUMN counted_in bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint;
CREATE INDEX ledger_counted_in ON ledger USING brin (counted_in)
    WITH (pages_per_range = 32, autosummarize = on);
