//! `seawall load`: pairs from a file or stdin, a bounded number of them in memory at a time.
//!
//! Batches commit relaxed, and one flush at the end makes all of them durable: a kill or power cut
//! on the way loses the latest batches, and with `--resume` their part of the input offset with them.

mod ledger;

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::RangedU64ValueParser;
use indicatif::ProgressBar;
use seawall::{Database, Durability, Error, TransactionOptions, Tree};
use seawall_wal::codec::to_u64;
use serde::Serialize;

use self::ledger::{Fingerprint, LEDGER_TREE, Ledger, Progress};
use crate::database::TreeArg;
use crate::failure::Failure;
use crate::format::{Entries, Entry, Format, Position};
use crate::output::{self, Output, Unit};

/// Size of the buffer in front of the input.
const INPUT_BUFFER_BYTES: usize = 1 << 20;
/// Most bytes of keys and values in a batch that has more than one pair.
const BATCH_BYTES_MAX: usize = 64 << 20;
/// Most pairs in a batch.
const BATCH_PAIRS_MAX: u64 = 1 << 20;

/// Load pairs from a file; keys that are there get the new value
///
/// The formats are described with --format. Empty lines are skipped.
///
/// With --resume, how far the input was read is committed with the pairs, in the tree seawall.load
/// under the tree's name and the file's path. Run again after an interruption, the command goes on
/// from there; after a complete load it does nothing. It refuses an input that is not the same any
/// more (by its size and its first MiB). A load without --resume begins anew and forgets the record.
#[derive(Args, Debug)]
pub(crate) struct Load {
    #[command(flatten)]
    target: TreeArg,
    /// The input; - is stdin. A pipe is read as a stream, and takes no --resume
    file: PathBuf,
    /// How the pairs are written; by default what the file's name ends in, else ndjson
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Pairs in a transaction
    #[arg(long, value_name = "N", default_value_t = 1000,
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=BATCH_PAIRS_MAX))]
    batch: u64,
    /// Go on where an earlier load of this file stopped
    #[arg(long)]
    resume: bool,
}

#[derive(Serialize)]
struct Summary {
    /// Loaded by this run.
    pairs: u64,
    /// Loaded by earlier runs that it resumed.
    pairs_before: u64,
    input_bytes: u64,
    #[serde(serialize_with = "output::seconds")]
    elapsed: Duration,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pairs, pairs_before, input_bytes, elapsed } = self;
        write!(f, "loaded {pairs} pairs, {input_bytes} bytes of input, in {elapsed:.1?}")?;
        if *pairs_before > 0 {
            write!(f, "; {pairs_before} pairs were there from an earlier run")?;
        }
        Ok(())
    }
}

/// What is loaded, known to be readable before the database is touched.
enum Input {
    /// Read once, from front to back: stdin, a pipe, a device.
    Stream(Box<dyn Read>),
    /// A file by its canonical path, and what it is recognised by.
    File { file: File, path: PathBuf, fingerprint: Fingerprint },
}

/// Where the pairs of a load go, and its progress.
struct Sink<'a> {
    database: &'a Database,
    tree: Tree,
    ledger: Option<Ledger>,
    loaded: Progress,
    bar: ProgressBar,
}

impl Load {
    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Failure> {
        let started = Instant::now();
        let format = self.format.or_else(|| format_of(&self.file)).unwrap_or(Format::Ndjson);
        if self.target.tree == LEDGER_TREE {
            let why =
                format!("the tree {LEDGER_TREE} says how far loads have come, and takes none");
            return Err(Failure::Usage(why));
        }
        let input = self.open_input()?;
        let (database, tree) = self.target.open_or_create()?;
        let (ledger, loaded) = match &input {
            Input::File { path, fingerprint, .. } => {
                let nothing = Progress::nothing(fingerprint.clone(), format);
                self.consult_ledger(&database, path, nothing)?
            }
            Input::Stream(_) => (None, Progress::nothing(Fingerprint::default(), format)),
        };
        let start = loaded.position;
        let (pairs_before, size) = (loaded.pairs, loaded.input.bytes);
        if pairs_before > 0 {
            let offset = start.offset;
            let what = format!("going on behind {pairs_before} pairs, at byte {offset} of {size}");
            output::message(&what);
        }
        let bar = output::progress("load", size, Unit::Bytes);
        let mut sink = Sink { database: &database, tree, ledger, loaded, bar };
        let taken = sink.take_all(self.entries(input, format, start)?, self.batch);
        let (pairs, end) = (sink.loaded.pairs, sink.loaded.position);
        drop(sink);
        database.sync()?;
        database.close()?;
        taken?;
        out.result(&Summary {
            pairs: pairs - pairs_before,
            pairs_before,
            input_bytes: end.offset - start.offset,
            elapsed: started.elapsed(),
        })
    }

    /// Opens the input, and reads the head of a file. A pipe is not even opened where that is of no use:
    /// it would wait for a writer.
    fn open_input(&self) -> Result<Input, Failure> {
        if self.file == Path::new("-") {
            return self.stream(|| Ok(Box::new(io::stdin())));
        }
        let unreadable = |error| self.input_failure(&error);
        let metadata = fs::metadata(&self.file).map_err(unreadable)?;
        if metadata.is_dir() {
            return Err(unreadable(ErrorKind::IsADirectory.into()));
        }
        if !metadata.is_file() {
            return self.stream(|| Ok(Box::new(File::open(&self.file).map_err(unreadable)?)));
        }
        let file = File::open(&self.file).map_err(unreadable)?;
        let path = self.file.canonicalize().map_err(unreadable)?;
        let fingerprint = Fingerprint::take(&file).map_err(unreadable)?;
        Ok(Input::File { file, path, fingerprint })
    }

    fn stream(
        &self,
        open: impl FnOnce() -> Result<Box<dyn Read>, Failure>,
    ) -> Result<Input, Failure> {
        if self.resume {
            let file = self.file.display();
            let why = format!("--resume needs a file: {file} cannot be read again");
            return Err(Failure::Usage(why));
        }
        open().map(Input::Stream)
    }

    fn input_failure(&self, error: &io::Error) -> Failure {
        Failure::Failed(format!("cannot read {}: {error}", self.file.display()))
    }

    /// The record of this load where it can be resumed, and how far an earlier one came.
    fn consult_ledger(
        &self,
        database: &Database,
        path: &Path,
        nothing: Progress,
    ) -> Result<(Option<Ledger>, Progress), Failure> {
        if !self.resume {
            Ledger::forget(database, &self.target.tree, path)?;
            return Ok((None, nothing));
        }
        let ledger = Ledger::open(database, &self.target.tree, path)?;
        let loaded = match ledger.read()? {
            None => nothing,
            Some(loaded) if loaded.is_of(&nothing) => loaded,
            Some(_) => {
                let file = self.file.display();
                let why = format!(
                    "{file} has changed since the load that --resume would go on with, or is read \
                     in another format; load it without --resume"
                );
                return Err(Failure::Failed(why));
            }
        };
        Ok((Some(ledger), loaded))
    }

    fn entries(
        &self,
        input: Input,
        format: Format,
        start: Position,
    ) -> Result<Entries<'static>, Failure> {
        let input: Box<dyn Read> = match input {
            Input::Stream(stream) => stream,
            Input::File { mut file, .. } => {
                file.seek(SeekFrom::Start(start.offset))
                    .map_err(|error| self.input_failure(&error))?;
                Box::new(file)
            }
        };
        Ok(format.read(BufReader::with_capacity(INPUT_BUFFER_BYTES, input), start))
    }
}

fn format_of(file: &Path) -> Option<Format> {
    Format::of_extension(file.extension()?.to_str()?)
}

impl Sink<'_> {
    /// Loads everything, batch by batch. What was loaded before an error stays.
    fn take_all(&mut self, mut entries: Entries<'_>, batch_pairs: u64) -> Result<(), Failure> {
        loop {
            let (batch, error) = next_batch(&mut entries, batch_pairs);
            if !batch.is_empty() {
                self.commit(&batch)?;
            }
            match error {
                Some(error) => return Err(self.refused(&error)),
                None if batch.is_empty() => break,
                None => {}
            }
        }
        self.bar.finish_and_clear();
        Ok(())
    }

    fn refused(&self, error: &impl fmt::Display) -> Failure {
        self.bar.finish_and_clear();
        let loaded = match self.loaded.pairs {
            0 => "nothing is loaded".to_owned(),
            1 => "the pair in front of it is loaded".to_owned(),
            pairs => format!("the {pairs} pairs in front of it are loaded"),
        };
        Failure::Failed(format!("input, {error}; {loaded}"))
    }

    fn commit(&mut self, batch: &[Entry]) -> Result<(), Failure> {
        let mut loaded = self.loaded.clone();
        loaded.pairs += to_u64(batch.len());
        loaded.position = batch.last().map_or(loaded.position, |entry| entry.end);
        let options = TransactionOptions::new().durability(Durability::Relaxed);
        self.database.transact_with(options, |transaction| -> Result<(), Error> {
            for entry in batch {
                transaction.insert(&self.tree, &entry.key, &entry.value)?;
            }
            match &self.ledger {
                Some(ledger) => ledger.write(transaction, &loaded),
                None => Ok(()),
            }
        })?;
        self.bar.set_position(loaded.position.offset);
        self.loaded = loaded;
        Ok(())
    }
}

/// Up to `pairs` entries within the bound on bytes, and what ended them early.
fn next_batch(
    entries: &mut Entries<'_>,
    pairs: u64,
) -> (Vec<Entry>, Option<crate::format::FormatError>) {
    let mut batch = Vec::new();
    let mut bytes = 0;
    while to_u64(batch.len()) < pairs && bytes < BATCH_BYTES_MAX {
        match entries.next() {
            Some(Ok(entry)) => {
                bytes += entry.key.len() + entry.value.len();
                batch.push(entry);
            }
            Some(Err(error)) => return (batch, Some(error)),
            None => break,
        }
    }
    (batch, None)
}

#[cfg(test)]
mod tests {
    use super::{BATCH_BYTES_MAX, next_batch};
    use crate::format::{Entries, Entry, Position};

    fn entries(value_bytes: usize, count: usize) -> Entries<'static> {
        let entry =
            Entry { key: vec![b'k'], value: vec![0; value_bytes], end: Position::default() };
        Box::new(std::iter::repeat_n(entry, count).map(Ok))
    }

    #[test]
    fn a_batch_ends_at_its_number_of_pairs() {
        let mut entries = entries(1, 5);
        let sizes = [2, 2, 2, 2].map(|pairs| next_batch(&mut entries, pairs).0.len());
        assert_eq!(sizes, [2, 2, 1, 0]);
    }

    #[test]
    fn a_batch_ends_at_its_bound_of_bytes_but_has_at_least_one_pair() {
        assert_eq!(next_batch(&mut entries(BATCH_BYTES_MAX / 2, 5), 100).0.len(), 2);
        assert_eq!(next_batch(&mut entries(BATCH_BYTES_MAX + 1, 3), 100).0.len(), 1);
    }
}
