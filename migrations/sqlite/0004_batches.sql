-- The archive's pages of one LLM, metric or source, each newest first: there are few such keys, and each is asked for its
-- newest.
CREATE INDEX batches_by_key ON batches (llm_id, metric_id, source, batch_at, id);
