-- How a batch came to be, in its producer's words (a load test's workload). NULL where nothing is said.
ALTER TABLE batches ADD COLUMN metadata jsonb;
