//! The tables, and how an older file becomes a newer one.

use rusqlite::Connection;

use super::{Result, StoreError};

/// One entry a version; entries are never changed, only added.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE instances (
        id TEXT PRIMARY KEY,
        record TEXT NOT NULL
    ) STRICT;
    CREATE TABLE operations (
        id TEXT PRIMARY KEY,
        instance TEXT,
        verb TEXT NOT NULL,
        request TEXT UNIQUE,
        state TEXT NOT NULL,
        begun INTEGER NOT NULL,
        ended INTEGER,
        record TEXT NOT NULL
    ) STRICT;
    CREATE INDEX operations_by_time ON operations (begun, id);
    CREATE INDEX operations_by_instance ON operations (instance, begun);
    CREATE TABLE steps (
        operation TEXT NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        name TEXT NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (operation, number)
    ) STRICT;
",
    "
    CREATE TABLE journal (
        id TEXT NOT NULL,
        newest INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE events (
        sequence INTEGER PRIMARY KEY,
        time INTEGER NOT NULL,
        record TEXT NOT NULL
    ) STRICT;
    CREATE TABLE standings (
        instance TEXT PRIMARY KEY,
        power TEXT,
        agent INTEGER NOT NULL
    ) STRICT;
",
    "
    CREATE TABLE node (
        record TEXT NOT NULL,
        inventory TEXT NOT NULL,
        generation INTEGER NOT NULL
    ) STRICT;
",
    "
    ALTER TABLE standings ADD COLUMN plugged TEXT NOT NULL DEFAULT '[]';
    UPDATE standings SET plugged = coalesce(
        (SELECT json_group_array(json_extract(vif.value, '$.id'))
         FROM instances, json_each(instances.record, '$.spec.vifs') AS vif
         WHERE instances.id = standings.instance AND json_extract(vif.value, '$.kind') IS NOT 'Unbound'),
        '[]');
",
    "
    CREATE TABLE quiesced (
        instance TEXT PRIMARY KEY,
        until INTEGER NOT NULL,
        filesystems INTEGER NOT NULL
    ) STRICT;
",
    "
    CREATE TABLE left_files (
        over TEXT PRIMARY KEY,
        under TEXT NOT NULL,
        volume TEXT NOT NULL
    ) STRICT;
",
    "
    ALTER TABLE steps ADD COLUMN stale INTEGER NOT NULL DEFAULT 0;
",
];

pub(super) fn prepare(connection: &Connection) -> Result<()> {
    // A reader outside, as an operator's sqlite3, may hold the file for a moment.
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // FULL, not NORMAL: a step must be on disk before it is applied, also through a power cut.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let done = usize::try_from(found).unwrap_or(usize::MAX);
    let missing = MIGRATIONS
        .get(done..)
        .ok_or(StoreError::Newer { found, known })?;
    // The number goes with what it tells of: a crash leaves both or neither.
    for (version, migration) in (done + 1..).zip(missing) {
        let step = format!("BEGIN; {migration} PRAGMA user_version = {version}; COMMIT;");
        connection.execute_batch(&step)?;
    }
    Ok(())
}
