-- A rebuild keeps batches from being counted until it is over, so it no longer asks which transaction counted a batch.
-- The column's index goes with it.
ALTER TABLE ledger DROP COLUMN counted_in;
