-- What operators did with dead letters. Only ever added to; `done_at` is filled in once.
CREATE TABLE dead_letter_log (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    letter_id  text        NOT NULL,
    action     text        NOT NULL CHECK (action IN ('replay', 'discard')),
    reason     text        NOT NULL,
    -- The beginning of it, where body_bytes says that there was more.
    body       bytea       NOT NULL,
    body_bytes bigint      NOT NULL,
    operator   text        NOT NULL,
    noted_at   timestamptz NOT NULL,
    -- When the broker had done it; NULL where that was never learned.
    done_at    timestamptz
);
