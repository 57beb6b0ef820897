//! redb: a copy-on-write B-tree with one writer.

use std::path::Path;

use anyhow::Result;
use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction,
};

use crate::engine::{Engine, RelaxedSync, Session, Settings, Setup, Writer};

const TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("pairs");

pub(crate) struct Redb {
    database: Database,
    durability: Durability,
}

impl Engine for Redb {
    const NAME: &'static str = "redb";
    const SETTINGS: Settings = Settings {
        version: "4.6",
        cache: "`set_cache_size`",
        durable: "`Durability::Immediate`, the default",
        relaxed: "`Durability::None`, an empty `Immediate` commit by the harness every 100 ms",
        reads: "`ReadOnlyTable::get` and `range`: borrowed guards",
        other: "defaults; one writer at a time",
    };
    const RELAXED_SYNC_BY: RelaxedSync = RelaxedSync::Harness;

    type Session<'e> = RedbSession<'e>;

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let cache_bytes = usize::try_from(setup.cache_bytes)?;
        let database =
            Database::builder().set_cache_size(cache_bytes).create(dir.join("pairs.redb"))?;
        let transaction = database.begin_write()?;
        transaction.open_table(TABLE)?;
        transaction.commit()?;
        let durability = if setup.is_durable { Durability::Immediate } else { Durability::None };
        Ok(Self { database, durability })
    }

    fn session(&self) -> Result<RedbSession<'_>> {
        Ok(RedbSession(self))
    }

    fn sync(&self) -> Result<()> {
        Ok(self.database.begin_write()?.commit()?)
    }

    fn settle(&self) -> Result<()> {
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(self.database.close()?)
    }
}

pub(crate) struct RedbSession<'e>(&'e Redb);

impl RedbSession<'_> {
    fn begin(&self) -> Result<WriteTransaction> {
        let mut transaction = self.0.database.begin_write()?;
        transaction.set_durability(self.0.durability)?;
        Ok(transaction)
    }
}

impl Session for RedbSession<'_> {
    fn get<R>(&mut self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        let table = self.0.database.begin_read()?.open_table(TABLE)?;
        Ok(table.get(key)?.map(|value| read(value.value())))
    }

    fn scan(
        &mut self,
        from: &[u8],
        limit: u64,
        mut visit: impl FnMut(&[u8], &[u8]),
    ) -> Result<u64> {
        let table = self.0.database.begin_read()?.open_table(TABLE)?;
        let mut count = 0;
        for pair in table.range::<&[u8]>(from..)? {
            let (key, value) = pair?;
            visit(key.value(), value.value());
            count += 1;
            if count == limit {
                break;
            }
        }
        Ok(count)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let transaction = self.begin()?;
        transaction.open_table(TABLE)?.insert(key, value)?;
        Ok(transaction.commit()?)
    }

    fn transaction(&mut self, write: &mut dyn FnMut(&mut dyn Writer) -> Result<()>) -> Result<()> {
        let transaction = self.begin()?;
        write(&mut RedbWriter(transaction.open_table(TABLE)?))?;
        Ok(transaction.commit()?)
    }

    fn update(&mut self, key: &[u8], change: &mut dyn FnMut(&[u8], &mut Vec<u8>)) -> Result<bool> {
        let transaction = self.begin()?;
        let mut value = Vec::new();
        let is_there = {
            let mut table = transaction.open_table(TABLE)?;
            let found = table.get(key)?.map(|old| change(old.value(), &mut value));
            if found.is_some() {
                table.insert(key, value.as_slice())?;
            }
            found.is_some()
        };
        transaction.commit()?;
        Ok(is_there)
    }
}

struct RedbWriter<'t>(Table<'t, &'static [u8], &'static [u8]>);

impl Writer for RedbWriter<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.0.insert(key, value)?;
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.0.remove(key)?;
        Ok(())
    }
}
