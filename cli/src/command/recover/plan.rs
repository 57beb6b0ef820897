//! What recovery would do, found by reading the log from where the last checkpoint needs it to its
//! end. The transactions to be undone are those that recovery's own analysis finds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use seawall_wal::control::MasterRecord;
use seawall_wal::record::Body;
use seawall_wal::{PageId, TxnId};
use serde::Serialize;

use crate::failure::Failure;
use crate::inspect::{Files, UNFINISHED, describe_end, undecodable};

/// What recovery would do.
#[derive(Default, Serialize)]
pub(super) struct Plan {
    /// Whether the database's creation did not finish: then it is made anew, and the rest is zero.
    starts_over: bool,
    /// Whether there is nothing to do.
    clean: bool,
    redo_lsn: u64,
    /// End of the log.
    end_lsn: u64,
    /// Why the log ends there.
    end: &'static str,
    tail_bytes_cut: u64,
    /// Bytes of log from the redo LSN to the end.
    log_bytes: u64,
    records: u64,
    /// Pages that these records name: at most so many are read and redone.
    pages: usize,
    /// Transactions that did not commit.
    losers: usize,
    /// Those of them whose undo information was moved out of the log, in part at least.
    losers_spilled: usize,
    /// Records of losers that are not compensated yet, as far as they are in the log.
    records_to_undo: u64,
}

/// Unfinished transactions and what is left of them to undo, as far as the log tells.
#[derive(Default)]
struct Transactions(BTreeMap<TxnId, u64>);

impl Transactions {
    fn take_in(&mut self, txn: TxnId, body: &Body<'_>) {
        match body {
            Body::Update { .. } => *self.0.entry(txn).or_default() += 1,
            Body::Compensation { .. } => {
                let left = self.0.entry(txn).or_default();
                *left = left.saturating_sub(1);
            }
            Body::Commit(_) | Body::RollbackEnd => {
                self.0.remove(&txn);
            }
            _ => {}
        }
    }
}

impl Plan {
    /// Reads the log; changes nothing.
    pub(super) fn make(files: &Files) -> Result<Self, Failure> {
        if files.is_unfinished() {
            return Ok(Self { starts_over: true, ..Self::default() });
        }
        // Nothing is read of it here, but recovery would not get past it.
        files.pages()?;
        let log = files.log()?;
        let end = files.log_end(&log, &files.doublewrite_slots()?)?;
        let losers = files.outlook(&log, end.end_lsn)?.losers();
        let master = files.state().master;
        let start = master.map_or_else(|| files.log_start(&log), |master| master.start_lsn());
        let redo_lsn = master.map_or(start, |master: MasterRecord| master.redo_lsn);
        let hint = master.map(|master| master.start_at);
        let mut reader = log.reader(start, hint, Some(end.end_lsn))?;
        let (mut records, mut log_bytes) = (0, 0);
        let mut pages = BTreeSet::<PageId>::new();
        let mut transactions = Transactions::default();
        while let Some(found) = reader.next_record()? {
            let body = found.body().map_err(undecodable(&log, &found))?;
            let decoded = found.decode(&body).map_err(undecodable(&log, &found))?;
            records += 1;
            transactions.take_in(decoded.txn, &decoded.body);
            if found.lsn >= redo_lsn {
                log_bytes += found.end_lsn.since(found.lsn);
                pages.extend(decoded.body.page_refs().iter().map(|page| page.page));
            }
        }
        Ok(Self {
            starts_over: false,
            clean: !files.needs_recovery(),
            redo_lsn: redo_lsn.get(),
            end_lsn: end.end_lsn.get(),
            end: describe_end(end.case),
            tail_bytes_cut: end.cut_bytes,
            log_bytes,
            records,
            pages: pages.len(),
            losers: losers.len(),
            losers_spilled: losers.iter().filter(|loser| loser.is_spilled).count(),
            records_to_undo: transactions.0.values().sum(),
        })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.starts_over {
            return f.write_str(UNFINISHED);
        }
        if self.clean {
            return write!(f, "shut down cleanly at {}; there is nothing to recover", self.end_lsn);
        }
        let mut line = |name: &str, value: &dyn fmt::Display| writeln!(f, "{name:<22}{value}");
        line("redo_lsn", &self.redo_lsn)?;
        line("end_lsn", &format_args!("{}: {}", self.end_lsn, self.end))?;
        line("tail_bytes_cut", &self.tail_bytes_cut)?;
        line("log_bytes", &self.log_bytes)?;
        line("records", &self.records)?;
        line("pages", &self.pages)?;
        line("losers", &self.losers)?;
        write!(f, "{:<22}{}", "records_to_undo", self.records_to_undo)?;
        match self.losers_spilled {
            0 => Ok(()),
            count => write!(f, ", and those in undo files (losers with one: {count})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use seawall_wal::Lsn;
    use seawall_wal::record::CommitInfo;

    use super::*;

    fn update() -> Body<'static> {
        Body::Update { refs: Vec::new() }
    }

    #[test]
    fn a_transaction_without_an_end_is_a_loser_with_what_it_did() {
        let mut transactions = Transactions::default();
        let [committed, rolled_back, loser] = [1, 2, 3].map(TxnId::new);
        for txn in [committed, rolled_back, loser, loser] {
            transactions.take_in(txn, &update());
        }
        let compensation = Body::Compensation { undo_next_lsn: Lsn::NONE, refs: Vec::new() };
        transactions.take_in(rolled_back, &compensation);
        transactions.take_in(rolled_back, &Body::RollbackEnd);
        transactions.take_in(committed, &Body::Commit(CommitInfo::default()));
        transactions.take_in(loser, &compensation);
        assert_eq!(transactions.0, BTreeMap::from([(loser, 1)]));
    }
}
