-- A database of schema version 1, as the first gateway with `queue = sqlite` made it, with a few
-- rows. Never change it: every later version must be able to upgrade it.
CREATE TABLE push (
    id INTEGER PRIMARY KEY,
    line BLOB NOT NULL,
    device_end INTEGER NOT NULL,
    key_end INTEGER NOT NULL,
    is_json INTEGER NOT NULL,
    received REAL NOT NULL,
    crc INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    not_before REAL
);
CREATE INDEX asleep ON push (not_before) WHERE not_before IS NOT NULL;
CREATE TABLE route (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);
CREATE TABLE route_copy (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    hex TEXT NOT NULL
);
CREATE TRIGGER copy_route AFTER INSERT ON route BEGIN
    INSERT OR REPLACE INTO route_copy VALUES (new.number, new.name, hex(new.name));
END;
CREATE TABLE receipt (
    number INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    digest BLOB NOT NULL,
    answer BLOB NOT NULL,
    created REAL NOT NULL
);
INSERT INTO route VALUES (1, 'c2dm');
INSERT INTO route VALUES (2, 'fcm');
INSERT INTO push VALUES (281474976710663, x'746f6b656e3a6b65793a7061796c6f6164', 5, 9, 0, 1700000100.0, 3416370147, 0, NULL);
INSERT INTO push VALUES (562949953421313, x'613a3a7b22746f6b656e223a2261222c2264617461223a7b2262223a2263227d7d', 1, 2, 1, 1700000101.5, 330903413, 3, 1700000200.5);
INSERT INTO receipt VALUES (1, 'order-17', zeroblob(32), x'7b7d', 1700000100.0);
PRAGMA user_version = 1;
PRAGMA application_id = 1848796161;
PRAGMA journal_mode = WAL;
