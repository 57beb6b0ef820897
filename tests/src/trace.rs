//! Whether two runs are the same run: every operation of the disk, to the byte, and every answer.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use seawall_wal::disk::SimDisk;
use seawall_wal::disk::sim::SimOperation;

use crate::ensure;
use crate::failure::{Failure, Outcome};
use crate::operation::Operation;
use crate::session::Session;
use crate::settings::Settings;

/// The operations of a disk, in order.
#[derive(Debug, Default)]
pub struct Trace(Mutex<Vec<Step>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    what: String,
    hash: u64,
}

impl Trace {
    /// The disk is about to run an operation.
    pub fn see(&self, operation: &SimOperation<'_>) {
        let mut hasher = DefaultHasher::new();
        operation.bytes.hash(&mut hasher);
        let SimOperation { kind, path, offset, length, .. } = *operation;
        let what = format!("{kind:?} {} {offset}+{length}", path.display());
        let step = Step { what, hash: hasher.finish() };
        self.0.lock().expect("nothing panics under the lock").push(step);
    }

    /// # Errors
    /// The first operation that the other trace does not have.
    fn compare(&self, other: &Self) -> Outcome {
        let one = self.0.lock().expect("nothing panics under the lock");
        let other = other.0.lock().expect("nothing panics under the lock");
        let differs = one.iter().zip(other.iter()).position(|(one, other)| one != other);
        let at = match differs {
            None if one.len() == other.len() => return Ok(()),
            None => one.len().min(other.len()),
            Some(at) => at,
        };
        let show = |steps: &[Step]| steps.get(at).map(|step| step.what.clone());
        let (first, second) = (show(&one), show(&other));
        let how = if first == second { "with other bytes" } else { "instead" };
        Err(Failure::new(format!(
            "two runs differ at operation {at} of the disk: {first:?}, then {second:?} {how}"
        )))
    }
}

/// What a run has done.
struct Run {
    trace: Arc<Trace>,
    /// What the disk holds at the end.
    files: Vec<(PathBuf, Vec<u8>)>,
    /// Operations that were not skipped.
    done: u64,
}

impl Run {
    /// Does the operations on an empty disk, and closes the database.
    fn new(settings: &Settings, operations: &[Operation]) -> Outcome<Self> {
        let trace = Arc::new(Trace::default());
        let mut session = Session::create_traced(SimDisk::new(), settings, &trace)?;
        session.run(operations)?;
        session.close()?;
        let disk = &session.disk;
        let files = disk.files().into_iter().map(|(path, _)| {
            let bytes = disk.read_file(&path).expect("it is listed");
            (path, bytes)
        });
        Ok(Self { files: files.collect(), done: session.done, trace })
    }

    fn compare(&self, other: &Self) -> Outcome {
        self.trace.compare(&other.trace)?;
        ensure!(self.done == other.done, "{} operations, then {}", self.done, other.done);
        ensure!(self.files == other.files, "two runs write the same and leave other files");
        Ok(())
    }
}

/// Does the same operations twice on two empty disks.
///
/// # Errors
/// When one run fails, or the two are not the same: in an operation of the disk, in a count, in what the
/// disks hold at the end.
pub fn run_twice(settings: &Settings, operations: &[Operation]) -> Outcome {
    Run::new(settings, operations)?.compare(&Run::new(settings, operations)?)
}

#[cfg(test)]
mod tests {
    use seawall::Durability;

    use super::*;
    use crate::operation::ValueSpec;

    fn run(seed: u64, bytes: u32) -> Run {
        let settings = Settings { seed, ..Settings::default() };
        let value = ValueSpec { bytes, seed: 1 };
        let insert = Operation::Insert(0, 1, value, Durability::Sync);
        Run::new(&settings, &[Operation::CreateTree(0), insert]).unwrap()
    }

    #[test]
    fn runs_that_differ_in_a_byte_or_in_their_seed_are_told_apart() {
        let one = run(1, 20);
        one.compare(&run(1, 20)).unwrap();
        for other in [run(1, 21), run(2, 20)] {
            let why = one.compare(&other).unwrap_err().to_string();
            assert!(why.contains("two runs differ at operation"), "{why}");
        }
    }
}
