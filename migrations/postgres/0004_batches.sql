-- The archive's pages of one LLM, metric or source, each newest first: there are few such keys, and each is asked for its
-- newest. Ascending, so that pages are left full where a key's batches arrive in the order of time.
CREATE INDEX batches_by_key ON batches (llm_id, metric_id, source, batch_at, id);

-- The limit of what is kept, which nobody raises before the transaction ends. `raising` is the advisory lock that whoever
-- raises it takes alone. A function, because each statement of a volatile one sees what was committed until then: the
-- statement that calls it may have begun before the limit was raised, and have waited for the lock since.
CREATE FUNCTION settled_retained_from(raising bigint) RETURNS timestamptz LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(raising);
    RETURN (SELECT retained_from FROM retention);
END
$$;
