-- A rebuild keeps batches from being counted until it is over, so it no longer asks when a batch was counted.
DROP INDEX ledger_counted_in;
ALTER TABLE ledger DROP COLUMN counted_in;
