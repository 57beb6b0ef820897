//! SQLite, through rusqlite: a B-tree with a write-ahead log, one writer, and SQL around it.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Result;
use parking_lot::{Mutex, MutexGuard};
use rusqlite::{Connection, OptionalExtension, params};

use crate::engine::{Engine, RelaxedSync, Session, Settings, Setup, Writer};

/// Rows up to this length stand in the index itself.
const WITHOUT_ROWID_VALUE_BYTES_MAX: usize = 1024;
/// Pages of log after which a commit moves them into the database: 32 MiB.
const CHECKPOINT_PAGES: i64 = 8192;
/// Cache of a connection that only reads: it reads through the map.
const READER_CACHE_KIB: u64 = 4096;

const GET: &str = "SELECT value FROM pairs WHERE key = ?1";
const FROM: &str = "SELECT key, value FROM pairs WHERE key >= ?1 ORDER BY key";
const PUT: &str =
    "INSERT INTO pairs (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2";
const UPDATE: &str = "UPDATE pairs SET value = ?2 WHERE key = ?1";
const DELETE: &str = "DELETE FROM pairs WHERE key = ?1";

pub(crate) struct Sqlite {
    path: PathBuf,
    map_bytes: u64,
    /// SQLite has one writer at a time; waiting here is faster than its busy handler.
    writer: Mutex<Connection>,
}

impl Engine for Sqlite {
    const NAME: &'static str = "sqlite";
    const SETTINGS: Settings = Settings {
        version: "bundled with rusqlite 0.43",
        cache: "`mmap_size`, and as much `cache_size` for the writer; readers read the map",
        durable: "WAL, `synchronous = FULL`",
        relaxed: "WAL, `synchronous = NORMAL`, the log synced by the harness every 100 ms",
        reads: "prepared statements, `get_ref` of the blob; one connection a thread",
        other: "`WITHOUT ROWID` for values up to 1 KiB, `wal_autocheckpoint` of 32 MiB; one writing connection under a mutex",
    };
    const RELAXED_SYNC_BY: RelaxedSync = RelaxedSync::Harness;

    type Session<'e> = SqliteSession<'e>;

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let path = dir.join("pairs.sqlite");
        let map_bytes = setup.cache_bytes;
        let writer = connect(&path, map_bytes, setup.cache_bytes / 1024)?;
        let synchronous = if setup.is_durable { "FULL" } else { "NORMAL" };
        writer.pragma_update(None, "synchronous", synchronous)?;
        writer.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        let kind =
            if setup.value_bytes <= WITHOUT_ROWID_VALUE_BYTES_MAX { "WITHOUT ROWID" } else { "" };
        writer.execute_batch(&format!(
            "CREATE TABLE IF NOT EXISTS pairs \
             (key BLOB NOT NULL PRIMARY KEY, value BLOB NOT NULL) {kind}"
        ))?;
        Ok(Self { path, map_bytes, writer: Mutex::new(writer) })
    }

    fn session(&self) -> Result<SqliteSession<'_>> {
        let reader = connect(&self.path, self.map_bytes, READER_CACHE_KIB)?;
        Ok(SqliteSession { engine: self, reader })
    }

    fn sync(&self) -> Result<()> {
        // SQLite has no call for it. No lock of its is on this file, so opening and closing it is harmless.
        Ok(File::open(self.path.with_extension("sqlite-wal"))?.sync_data()?)
    }

    fn settle(&self) -> Result<()> {
        let writer = self.writer.lock();
        writer.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        Ok(())
    }

    fn close(self) -> Result<()> {
        self.writer.into_inner().close().map_err(|(_, error)| error.into())
    }
}

fn connect(path: &Path, map_bytes: u64, cache_kib: u64) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update_and_check(None, "mmap_size", i64::try_from(map_bytes)?, |_| Ok(()))?;
    connection.pragma_update(None, "cache_size", -i64::try_from(cache_kib)?)?;
    Ok(connection)
}

pub(crate) struct SqliteSession<'e> {
    engine: &'e Sqlite,
    reader: Connection,
}

impl Session for SqliteSession<'_> {
    fn get<R>(&mut self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        let mut statement = self.reader.prepare_cached(GET)?;
        let mut rows = statement.query([key])?;
        match rows.next()? {
            Some(row) => Ok(Some(read(row.get_ref(0)?.as_blob()?))),
            None => Ok(None),
        }
    }

    fn scan(
        &mut self,
        from: &[u8],
        limit: u64,
        mut visit: impl FnMut(&[u8], &[u8]),
    ) -> Result<u64> {
        let mut statement = self.reader.prepare_cached(FROM)?;
        let mut rows = statement.query([from])?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            visit(row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?);
            count += 1;
            if count == limit {
                break;
            }
        }
        Ok(count)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let writer = self.engine.writer.lock();
        writer.prepare_cached(PUT)?.execute([key, value])?;
        Ok(())
    }

    fn transaction(&mut self, write: &mut dyn FnMut(&mut dyn Writer) -> Result<()>) -> Result<()> {
        let mut writer = SqliteWriter(self.engine.writer.lock());
        writer.0.execute_batch("BEGIN IMMEDIATE")?;
        match write(&mut writer) {
            Ok(()) => Ok(writer.0.execute_batch("COMMIT")?),
            Err(error) => {
                writer.0.execute_batch("ROLLBACK")?;
                Err(error)
            }
        }
    }

    fn update(&mut self, key: &[u8], change: &mut dyn FnMut(&[u8], &mut Vec<u8>)) -> Result<bool> {
        let mut writer = self.engine.writer.lock();
        let transaction =
            writer.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let mut value = Vec::new();
        let found = transaction
            .prepare_cached(GET)?
            .query_row([key], |row| {
                change(row.get_ref(0)?.as_blob()?, &mut value);
                Ok(())
            })
            .optional()?;
        if found.is_some() {
            transaction.prepare_cached(UPDATE)?.execute(params![key, value])?;
        }
        transaction.commit()?;
        Ok(found.is_some())
    }
}

struct SqliteWriter<'e>(MutexGuard<'e, Connection>);

impl Writer for SqliteWriter<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.0.prepare_cached(PUT)?.execute([key, value])?;
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.0.prepare_cached(DELETE)?.execute([key])?;
        Ok(())
    }
}
