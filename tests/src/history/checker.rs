//! A checker of our own: what a history shows that its isolation level forbids.
//!
//! From the order of each key's versions follow the dependencies between transactions (Adya, "Weak
//! Consistency", 1999): who replaced whose version (ww), who read it (wr), and who read a version that
//! another one replaced (rw). To them come the order of real time, since a transaction that begins
//! when another one has ended must not miss its effects. All of them together must have no cycle
//! where transactions are serializable. Snapshots allow cycles, but only those in which two rw
//! dependencies follow one another (Cerone and Gotsman, "Analysing Snapshot Isolation", 2016).
//!
//! The order of versions is read off the lists; that of registers follows the positions of the
//! commit records. Whose end nobody was told of counts where somebody has seen its effect.

use std::collections::{HashMap, HashSet};
use std::fmt;

use seawall::Isolation;
use seawall_wal::codec::to_u64;

use super::{Element, Ending, History, Key, Kind, Step, Transaction};

/// What is forbidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Anomaly {
    /// An element was read that nobody ever wrote.
    Unwritten,
    /// What an aborted transaction wrote was read (G1a).
    AbortedRead,
    /// A version was read that its writer replaced itself (G1b).
    IntermediateRead,
    /// A transaction did not read what it had written or read itself.
    Internal,
    /// Two lists of a key are not one the beginning of the other, or hold an element twice.
    IncompatibleOrder,
    /// A committed write is missing in a later read.
    LostWrite,
    /// Transactions depend on each other in a circle.
    Cycle,
}

/// Something forbidden, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub anomaly: Anomaly,
    /// Where.
    pub why: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.anomaly, self.why)
    }
}

/// Everything in `history` that `isolation` forbids; of cycles the first that is found.
#[must_use]
pub fn check(history: &History, isolation: Isolation) -> Vec<Finding> {
    let mut checker = Checker::new(history);
    for index in checker.counted() {
        checker.check_steps(index);
    }
    let versions = checker.versions();
    for (key, versions) in &versions {
        checker.check_lost(*key, versions);
    }
    if checker.findings.is_empty() {
        let graph = checker.graph(&versions);
        let cycle = match isolation {
            Isolation::Serializable => graph.cycle(),
            _ => graph.without_adjacent_rw().cycle(),
        };
        if let Some(cycle) = cycle {
            checker.find_cycle(&cycle);
        }
    }
    checker.findings
}

struct Checker<'h> {
    kind: Kind,
    transactions: &'h [Transaction],
    writers: HashMap<(Key, Element), usize>,
    /// Whose end is unknown, and of whom something was read.
    seen: HashSet<usize>,
    findings: Vec<Finding>,
}

impl<'h> Checker<'h> {
    fn new(history: &'h History) -> Self {
        let transactions = &history.transactions;
        let written = transactions
            .iter()
            .enumerate()
            .flat_map(|(index, transaction)| transaction.writes().map(move |write| (write, index)));
        let mut checker = Self {
            kind: history.kind,
            transactions,
            writers: written.collect(),
            seen: HashSet::new(),
            findings: Vec::new(),
        };
        let committed = transactions.iter().filter(|one| one.ending == Ending::Committed);
        for (key, found) in committed.flat_map(reads) {
            let writers = found.iter().filter_map(|&element| checker.writers.get(&(key, element)));
            checker.seen.extend(writers);
        }
        checker
    }

    /// Those that happened: committed, or seen by somebody.
    fn counted(&self) -> Vec<usize> {
        (0..self.transactions.len()).filter(|&index| self.is_counted(index)).collect()
    }

    fn is_counted(&self, index: usize) -> bool {
        match self.transactions[index].ending {
            Ending::Committed => true,
            Ending::Unknown => self.seen.contains(&index),
            Ending::Aborted => false,
        }
    }

    fn find(&mut self, anomaly: Anomaly, index: usize, why: impl fmt::Display) {
        let why = format!("transaction {index}: {why}: {:?}", self.transactions[index]);
        self.findings.push(Finding { anomaly, why });
    }

    /// What one transaction read, by itself and beside its writers.
    fn check_steps(&mut self, index: usize) {
        if self.transactions[index].ending != Ending::Committed {
            return;
        }
        let mut known: HashMap<Key, Vec<Element>> = HashMap::new();
        let mut own: HashMap<Key, Vec<Element>> = HashMap::new();
        for step in &self.transactions[index].steps {
            match step {
                Step::Write { key, element } => {
                    own.entry(*key).or_default().push(*element);
                    match self.kind {
                        Kind::Registers => drop(known.insert(*key, vec![*element])),
                        Kind::Lists => {
                            if let Some(list) = known.get_mut(key) {
                                list.push(*element);
                            }
                        }
                    }
                }
                Step::Read { key, found } => {
                    let own = own.get(key).map_or(&[][..], Vec::as_slice);
                    let is_known = match known.get(key) {
                        Some(known) => known == found,
                        None => found.ends_with(own),
                    };
                    if !is_known {
                        self.find(Anomaly::Internal, index, format_args!("key {key}"));
                    }
                    self.check_found(index, *key, found);
                    known.insert(*key, found.clone());
                }
            }
        }
    }

    /// One read beside those whose elements it found.
    fn check_found(&mut self, index: usize, key: Key, found: &[Element]) {
        let distinct: HashSet<_> = found.iter().collect();
        if distinct.len() < found.len() {
            self.find(Anomaly::IncompatibleOrder, index, format_args!("twice in key {key}"));
        }
        for element in found {
            let Some(&writer) = self.writers.get(&(key, *element)) else {
                self.find(Anomaly::Unwritten, index, format_args!("{element} in key {key}"));
                continue;
            };
            if self.transactions[writer].ending == Ending::Aborted {
                self.find(Anomaly::AbortedRead, index, format_args!("{element} of {writer}"));
            }
        }
        let Some(newest) = found.last() else { return };
        let Some(&writer) = self.writers.get(&(key, *newest)) else { return };
        if writer != index && last_write(&self.transactions[writer], key) != Some(*newest) {
            self.find(Anomaly::IntermediateRead, index, format_args!("{newest} of {writer}"));
        }
    }

    /// The elements of each key in the order in which they came.
    fn versions(&mut self) -> HashMap<Key, Vec<Element>> {
        match self.kind {
            Kind::Lists => self.versions_of_lists(),
            Kind::Registers => self.versions_of_registers(),
        }
    }

    fn versions_of_lists(&mut self) -> HashMap<Key, Vec<Element>> {
        let mut longest: HashMap<Key, &'h [Element]> = HashMap::new();
        let counted = self.counted();
        let transactions = self.transactions;
        for &index in &counted {
            for (key, found) in committed_reads(&transactions[index]) {
                let known = longest.entry(key).or_default();
                let (short, long) =
                    if found.len() < known.len() { (found, *known) } else { (*known, found) };
                *known = long;
                if !long.starts_with(short) {
                    let why = format!("key {key} held {short:?} and {long:?}");
                    self.find(Anomaly::IncompatibleOrder, index, why);
                }
            }
        }
        longest.into_iter().map(|(key, list)| (key, list.to_vec())).collect()
    }

    fn versions_of_registers(&self) -> HashMap<Key, Vec<Element>> {
        let mut counted = self.counted();
        counted.retain(|&index| self.transactions[index].commit_lsn.is_some());
        counted.sort_by_key(|&index| self.transactions[index].commit_lsn);
        let mut versions: HashMap<Key, Vec<Element>> = HashMap::new();
        for index in counted {
            let keys: HashSet<_> = self.transactions[index].writes().map(|(key, _)| key).collect();
            for key in keys {
                versions.entry(key).or_default().extend(last_write(&self.transactions[index], key));
            }
        }
        versions
    }

    /// Committed writes that a list lacks although it was read when they had been acknowledged.
    fn check_lost(&mut self, key: Key, versions: &[Element]) {
        let transactions = self.transactions;
        let last_read = transactions
            .iter()
            .filter(|one| committed_reads(one).any(|(read, _)| read == key))
            .map(|one| one.began)
            .max();
        for (index, transaction) in transactions.iter().enumerate() {
            let is_told = transaction.ending == Ending::Committed
                && last_read.is_some_and(|began| transaction.ended < began);
            let Some(element) = last_write(transaction, key).filter(|_| is_told) else { continue };
            if !versions.contains(&element) {
                self.find(Anomaly::LostWrite, index, format_args!("{element} in key {key}"));
            }
        }
    }

    /// The dependencies of those that happened.
    fn graph(&self, versions: &HashMap<Key, Vec<Element>>) -> Graph {
        let mut graph = Graph::new(self.transactions.len());
        let counted = self.counted();
        for (key, versions) in versions {
            let writers: Vec<_> = versions.iter().map(|&one| self.writers[&(*key, one)]).collect();
            for pair in writers.windows(2) {
                graph.depend(pair[0], pair[1], Relation::Dependency);
            }
            let places: HashMap<_, _> =
                versions.iter().enumerate().map(|(place, element)| (element, place + 1)).collect();
            for &index in &counted {
                for (_, found) in external_reads(&self.transactions[index], *key) {
                    let place = found.last().map_or(0, |element| places[element]);
                    if place > 0 {
                        graph.depend(writers[place - 1], index, Relation::Dependency);
                    }
                    // Behind the version read: the first one of another transaction.
                    let next = writers[place..].iter().find(|&&writer| writer != index);
                    if let Some(&next) = next {
                        graph.depend(index, next, Relation::AntiDependency);
                    }
                }
            }
        }
        self.add_real_time(&mut graph, &counted);
        graph
    }

    /// A chain of moments: each end leads to the next moment, and from there to what begins later.
    fn add_real_time(&self, graph: &mut Graph, counted: &[usize]) {
        let mut events = Vec::new();
        for &index in counted {
            let Transaction { began, ended, .. } = self.transactions[index];
            events.push((began, false, index));
            if ended != u64::MAX {
                events.push((ended, true, index));
            }
        }
        events.sort_unstable();
        let mut moment = None;
        for (_, is_end, index) in events {
            if is_end {
                let next = graph.node();
                graph.depend(index, next, Relation::Dependency);
                if let Some(moment) = moment {
                    graph.depend(moment, next, Relation::Dependency);
                }
                moment = Some(next);
            } else if let Some(moment) = moment {
                graph.depend(moment, index, Relation::Dependency);
            }
        }
    }

    fn find_cycle(&mut self, cycle: &[usize]) {
        let told: Vec<_> = cycle
            .iter()
            .filter_map(|&index| Some(format!("{index} {:?}", self.transactions.get(index)?)))
            .collect();
        let why = told.join("\n  then ");
        self.findings.push(Finding { anomaly: Anomaly::Cycle, why });
    }
}

fn reads(transaction: &Transaction) -> impl Iterator<Item = (Key, &[Element])> {
    transaction.steps.iter().filter_map(|step| match step {
        Step::Read { key, found } => Some((*key, found.as_slice())),
        Step::Write { .. } => None,
    })
}

/// What it read, where it is known to be true.
fn committed_reads(transaction: &Transaction) -> impl Iterator<Item = (Key, &[Element])> {
    let is_committed = transaction.ending == Ending::Committed;
    reads(transaction).filter(move |_| is_committed)
}

/// What it read of `key` that others had written: without its own elements at the end.
fn external_reads(transaction: &Transaction, key: Key) -> impl Iterator<Item = (Key, &[Element])> {
    let own: HashSet<_> = transaction.writes().collect();
    committed_reads(transaction).filter(move |(read, _)| *read == key).filter_map(
        move |(key, found)| {
            let others = found.iter().rposition(|&element| !own.contains(&(key, element)));
            let is_own = others.is_none() && !found.is_empty();
            (!is_own).then(|| (key, &found[..others.map_or(0, |place| place + 1)]))
        },
    )
}

fn last_write(transaction: &Transaction, key: Key) -> Option<Element> {
    transaction.writes().filter(|(written, _)| *written == key).map(|(_, element)| element).last()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    /// ww, wr, or the order of real time.
    Dependency,
    /// rw.
    AntiDependency,
}

/// Who comes before whom.
#[derive(Debug)]
struct Graph {
    next: Vec<Vec<(usize, Relation)>>,
}

impl Graph {
    fn new(nodes: usize) -> Self {
        Self { next: vec![Vec::new(); nodes] }
    }

    fn node(&mut self) -> usize {
        self.next.push(Vec::new());
        self.next.len() - 1
    }

    fn depend(&mut self, before: usize, after: usize, relation: Relation) {
        if before != after {
            self.next[before].push((after, relation));
        }
    }

    /// Two nodes for each: it was reached by an rw dependency, then only another one leads on, or not.
    /// The second half of the numbers is of the former.
    fn without_adjacent_rw(&self) -> Self {
        let nodes = self.next.len();
        let mut split = Self::new(2 * nodes);
        for (before, next) in self.next.iter().enumerate() {
            for &(after, relation) in next {
                match relation {
                    Relation::Dependency => {
                        split.depend(before, after, relation);
                        split.depend(before + nodes, after, relation);
                    }
                    Relation::AntiDependency => split.depend(before, after + nodes, relation),
                }
            }
        }
        split
    }

    /// The nodes of a cycle.
    fn cycle(&self) -> Option<Vec<usize>> {
        let mut before_count = vec![0_usize; self.next.len()];
        for &(after, _) in self.next.iter().flatten() {
            before_count[after] += 1;
        }
        let mut free: Vec<_> =
            (0..self.next.len()).filter(|&node| before_count[node] == 0).collect();
        let mut sorted = 0;
        while let Some(node) = free.pop() {
            sorted += 1;
            for &(after, _) in &self.next[node] {
                before_count[after] -= 1;
                if before_count[after] == 0 {
                    free.push(after);
                }
            }
        }
        (sorted < self.next.len()).then(|| self.walk_back(&before_count))
    }

    /// What is left has somebody left before it: walking back comes round.
    fn walk_back(&self, before_count: &[usize]) -> Vec<usize> {
        let mut before = vec![None; self.next.len()];
        for (node, next) in self.next.iter().enumerate().filter(|(node, _)| before_count[*node] > 0)
        {
            next.iter().for_each(|&(after, _)| before[after] = Some(node));
        }
        let start = before_count.iter().position(|&count| count > 0);
        let mut node = start.expect("something is left");
        let mut seen = HashMap::new();
        let mut path = Vec::new();
        loop {
            if let Some(&place) = seen.get(&node) {
                path.drain(..place);
                path.reverse();
                return path;
            }
            seen.insert(node, path.len());
            path.push(node);
            node = before[node].expect("whoever is left has somebody left before it");
        }
    }
}

/// Transactions counted, for those who report.
#[must_use]
pub fn counted(history: &History) -> u64 {
    to_u64(Checker::new(history).counted().len())
}
