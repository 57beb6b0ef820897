//! Histories of concurrent transactions: what each thread asked for and was told, in the order of
//! real time, with power cuts in between.
//!
//! [`workload`] makes them with several threads on a simulated disk, [`checker`] looks for what
//! the isolation level forbids, and [`elle`] hands them to an independent checker as well. Two
//! kinds of values are used (Kingsbury and Alvaro, "Elle", 2020): lists, to which each element is
//! appended once, so that one look at a list tells in which order the writers came; and registers,
//! where the positions of the commit records tell it.

pub mod checker;
pub mod elle;
mod recorder;
pub mod workload;

/// A key.
pub type Key = u32;
/// What is appended or written; each one is used once.
pub type Element = u32;

/// What is kept under the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Lists of elements.
    Lists,
    /// One element.
    Registers,
}

/// One step of a transaction, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The element was appended to the list, or written into the register.
    Write {
        /// Where.
        key: Key,
        /// What.
        element: Element,
    },
    /// The elements of the list were read, or that of the register; none where there was nothing.
    Read {
        /// Where.
        key: Key,
        /// What was there.
        found: Vec<Element>,
    },
}

/// How a transaction ended, as far as its thread was told before the power went off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With success.
    Committed,
    /// Without effect.
    Aborted,
    /// Nobody was told.
    Unknown,
}

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The thread that ran it; threads are numbered anew after each power cut.
    pub thread: u32,
    /// Its place among all beginnings and ends.
    pub began: u64,
    /// The same of its end; the highest number where nobody was told.
    pub ended: u64,
    /// What it did.
    pub steps: Vec<Step>,
    /// How it ended.
    pub ending: Ending,
    /// Position of its commit record, where it wrote and came so far.
    pub commit_lsn: Option<u64>,
}

/// What all threads did, by their ends.
#[derive(Clone, Debug)]
pub struct History {
    /// What is kept under the keys.
    pub kind: Kind,
    /// The transactions.
    pub transactions: Vec<Transaction>,
}

impl Transaction {
    /// Keys and elements that it wrote.
    pub fn writes(&self) -> impl Iterator<Item = (Key, Element)> {
        self.steps.iter().filter_map(|step| match *step {
            Step::Write { key, element } => Some((key, element)),
            Step::Read { .. } => None,
        })
    }
}

impl History {
    /// How many transactions ended so.
    #[must_use]
    pub fn count(&self, ending: Ending) -> usize {
        self.transactions.iter().filter(|transaction| transaction.ending == ending).count()
    }
}
