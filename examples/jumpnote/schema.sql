-- Who is to be pinged.
CREATE TABLE IF NOT EXISTS device (
    registration_id TEXT PRIMARY KEY,  -- of one application on one phone
    account TEXT NOT NULL              -- whose phone it is
) WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS device_account ON device (account);

CREATE TABLE IF NOT EXISTS note (
    account TEXT NOT NULL,
    id TEXT NOT NULL,                  -- made by the phone that wrote the note first
    text TEXT,                         -- NULL: deleted; kept, so that other phones learn of it
    revision INTEGER NOT NULL,         -- of the account's notes: 1 for its first change, then 2, 3 ...
    PRIMARY KEY (account, id)
) WITHOUT ROWID;
