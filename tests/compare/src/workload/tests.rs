//! Whether the sessions notice engines that answer wrongly: a map in memory, right or with a fault.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anyhow::Result;
use parking_lot::Mutex;

use super::{Context, Session as Which, run};
use crate::engine::{Engine, RelaxedSync, Session, Settings, Setup, Writer};

type Pairs = Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>;

/// What was "closed", by folder.
static FOLDERS: LazyLock<Mutex<HashMap<PathBuf, Pairs>>> = LazyLock::new(Mutex::default);

const NONE: u8 = 0;
/// Each thousandth write is lost.
const FORGETS: u8 = 1;
/// Scans end one pair early.
const ENDS_EARLY: u8 = 2;
/// Deletes do nothing.
const KEEPS: u8 = 3;
/// A byte in the middle of each thousandth value is another one.
const ROTS: u8 = 4;
/// Reads give the value of the next key.
const CONFUSES: u8 = 5;

struct Map<const FAULT: u8>(Pairs);

impl<const FAULT: u8> Engine for Map<FAULT> {
    const NAME: &'static str = "map";
    const SETTINGS: Settings =
        Settings { version: "", cache: "", durable: "", relaxed: "", reads: "", other: "" };
    const RELAXED_SYNC_BY: RelaxedSync = RelaxedSync::Harness;

    type Session<'e> = MapSession<FAULT>;

    fn open(dir: &Path, _: &Setup) -> Result<Self> {
        Ok(Self(Arc::clone(FOLDERS.lock().entry(dir.to_owned()).or_default())))
    }

    fn session(&self) -> Result<MapSession<FAULT>> {
        Ok(MapSession(Arc::clone(&self.0)))
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}

struct MapSession<const FAULT: u8>(Pairs);

impl<const FAULT: u8> Session for MapSession<FAULT> {
    fn get<R>(&mut self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        let pairs = self.0.lock();
        if FAULT == CONFUSES {
            return Ok(pairs.range(key.to_vec()..).nth(1).map(|(_, value)| read(value)));
        }
        Ok(pairs.get(key).map(|value| read(value)))
    }

    fn scan(
        &mut self,
        from: &[u8],
        limit: u64,
        mut visit: impl FnMut(&[u8], &[u8]),
    ) -> Result<u64> {
        let pairs = self.0.lock();
        let count = pairs.range(from.to_vec()..).count() as u64;
        let count = count.min(limit) - u64::from(FAULT == ENDS_EARLY && count > 0);
        let taken = pairs.range(from.to_vec()..).take(usize::try_from(count)?);
        taken.for_each(|(key, value)| visit(key, value));
        Ok(count)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        MapWriter::<FAULT>(&mut self.0.lock()).put(key, value)
    }

    fn transaction(&mut self, write: &mut dyn FnMut(&mut dyn Writer) -> Result<()>) -> Result<()> {
        write(&mut MapWriter::<FAULT>(&mut self.0.lock()))
    }

    fn update(&mut self, key: &[u8], change: &mut dyn FnMut(&[u8], &mut Vec<u8>)) -> Result<bool> {
        let mut pairs = self.0.lock();
        let Some(value) = pairs.get_mut(key) else { return Ok(false) };
        let mut new = Vec::new();
        change(value, &mut new);
        *value = new;
        Ok(true)
    }
}

struct MapWriter<'p, const FAULT: u8>(&'p mut BTreeMap<Vec<u8>, Vec<u8>>);

impl<const FAULT: u8> Writer for MapWriter<'_, FAULT> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let is_chosen = u16::from_le_bytes([key[0], key[1]]).is_multiple_of(1000);
        let mut value = value.to_vec();
        match FAULT {
            FORGETS if is_chosen => return Ok(()),
            ROTS if is_chosen => value[75] ^= 1,
            _ => {}
        }
        self.0.insert(key.to_vec(), value);
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        if FAULT != KEEPS {
            self.0.remove(key);
        }
        Ok(())
    }
}

/// Runs a session of the smallest size.
fn result_of<E: Engine>(session: Which) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let time_min = Duration::from_millis(20);
    run::<E>(
        session,
        &Context { dir: dir.path().to_owned(), scale: 0.001, repetition: 0, time_min },
    )
}

#[test]
fn a_right_engine_passes() {
    for session in [Which::Memory, Which::Ycsb] {
        result_of::<Map<NONE>>(session).unwrap();
    }
}

#[test]
fn lost_writes_are_noticed() {
    assert!(result_of::<Map<FORGETS>>(Which::Memory).is_err());
    assert!(result_of::<Map<FORGETS>>(Which::Ycsb).is_err());
}

#[test]
fn scans_that_end_early_are_noticed() {
    assert!(result_of::<Map<ENDS_EARLY>>(Which::Memory).is_err());
}

#[test]
fn deletes_that_do_nothing_are_noticed() {
    assert!(result_of::<Map<KEEPS>>(Which::Memory).is_err());
}

#[test]
fn values_that_rot_are_noticed() {
    assert!(result_of::<Map<ROTS>>(Which::Memory).is_err());
}

#[test]
fn values_of_other_keys_are_noticed() {
    assert!(result_of::<Map<CONFUSES>>(Which::Memory).is_err());
}
