-- Batches by when they were stored, for the reconciler.
CREATE INDEX batches_recorded_at ON batches (recorded_at);

-- How far the reconciler has come: every batch that was recorded before is in the ledger or in `uncounted`.
CREATE TABLE reconciliation (
    only_row       INTEGER PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    complete_until INTEGER NOT NULL
) STRICT;
INSERT INTO reconciliation (complete_until) VALUES (-9223372036854775808);

-- Batches that were overdue and therefore published once more.
CREATE TABLE uncounted (
    batch_id    BLOB    PRIMARY KEY REFERENCES batches,
    -- How often it was requeued.
    attempts    INTEGER NOT NULL CHECK (attempts > 0),
    requeued_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What is kept. NULL: everything.
CREATE TABLE retention (
    only_row      INTEGER PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    -- The start of the first hour whose batches are kept; never goes back. Statistics of earlier hours are final.
    retained_from INTEGER
) STRICT;
INSERT INTO retention DEFAULT VALUES;

-- Value of statistics_revision.revision after the transaction that counted the batch: tells what was counted before some
-- point from what was counted after. Rows that are there already were counted before any.
ALTER TABLE ledger ADD COLUMN counted_in INTEGER NOT NULL DEFAULT 0;
CREATE INDEX ledger_counted_in ON ledger (counted_in);
