-- What operators did with dead letters. Only ever added to; `done_at` is filled in once.
CREATE TABLE dead_letter_log (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    letter_id  TEXT    NOT NULL,
    action     TEXT    NOT NULL CHECK (action IN ('replay', 'discard')),
    reason     TEXT    NOT NULL,
    body_bytes INTEGER NOT NULL,
    operator   TEXT    NOT NULL,
    noted_at   INTEGER NOT NULL,
    -- When the broker had done it; NULL where that was never learned.
    done_at    INTEGER,
    -- The beginning of it, where body_bytes says that there was more.
    body       BLOB    NOT NULL
) STRICT;
