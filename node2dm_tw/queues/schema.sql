-- The queue of `queue = sqlite`: all pushes of all routes, in state_dir/queue.sqlite.
--
-- `PRAGMA user_version` is the version of this schema. To change it, change this file, which makes
-- new databases, and add to UPGRADES in sqlite_file.py what brings an existing one up to it.
-- Moments are in seconds since the epoch.

-- A push that has not ended. Rows are in the order of their route and arrival, urgent ones last.
CREATE TABLE push (
    id INTEGER PRIMARY KEY,     -- number of the route << 48 | 1 << 47 if urgent | sequence number
    line BLOB NOT NULL,         -- device:collapse_key:payload
    device_end INTEGER NOT NULL,  -- index of the colon that ends the device
    key_end INTEGER NOT NULL,   -- index of the colon that ends the collapse key
    is_json INTEGER NOT NULL,   -- 1: the payload is the JSON form; 0: node2dm's
    received REAL NOT NULL,     -- when it was received
    crc INTEGER NOT NULL,       -- CRC-32 over the columns before: SQLite has no checksum of its own
    attempts INTEGER NOT NULL,  -- failed tries, for the back-off
    not_before REAL             -- when a sleeping push is due; NULL: it does not sleep
);

CREATE INDEX asleep ON push (not_before) WHERE not_before IS NOT NULL;

-- The numbers of the routes. A number is never given to another name.
CREATE TABLE route (
    number INTEGER PRIMARY KEY,  -- 1 to 32767
    name TEXT NOT NULL UNIQUE
);

-- A second copy, on a page of its own: without the name of its route a push cannot be sent.
CREATE TABLE route_copy (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    hex TEXT NOT NULL           -- the name in hexadecimal, which shows whether both are intact
);

CREATE TRIGGER copy_route AFTER INSERT ON route BEGIN
    INSERT OR REPLACE INTO route_copy VALUES (new.number, new.name, hex(new.name));
END;

-- The answers to requests that a client may repeat under the same idempotency key.
CREATE TABLE receipt (
    number INTEGER PRIMARY KEY,  -- in the order in which they were made
    key TEXT NOT NULL UNIQUE,
    digest BLOB NOT NULL,       -- SHA-256 of the request's body
    answer BLOB NOT NULL,       -- the body of the answer
    created REAL NOT NULL       -- when it was made
);
