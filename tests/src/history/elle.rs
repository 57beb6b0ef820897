//! The same histories for an independent checker: the crate `adya`, which looks for the cycles of
//! Adya's isolation levels as Jepsen's Elle does.

use std::collections::HashMap;

use adya::history::{Interner, Mop, Op, OpType, ReadValue, Scalar};
use adya::{Opts, Report, Workload};
use seawall::Isolation;
use seawall_wal::codec::to_u64;

use super::{Ending, History, Kind, Step, Transaction};

/// What the other checker makes of it, with the order of real time.
#[must_use]
pub fn check(history: &History, isolation: Isolation) -> Report {
    let (workload, model) = match (history.kind, isolation) {
        (Kind::Lists, Isolation::Serializable) => (Workload::ListAppend, "strict-serializable"),
        (Kind::Lists, _) => (Workload::ListAppend, "strong-snapshot-isolation"),
        (Kind::Registers, Isolation::Serializable) => (Workload::RwRegister, "strict-serializable"),
        (Kind::Registers, _) => (Workload::RwRegister, "strong-snapshot-isolation"),
    };
    let told = Told::of(history);
    let options = Opts {
        models: vec![model.to_owned()],
        transaction_order: (history.kind == Kind::Registers).then_some(told.order),
        ..Opts::default()
    };
    adya::check(&adya::History::from_ops(told.ops, told.interner), workload, &options)
}

/// A history in the other's words.
struct Told {
    ops: Vec<Op>,
    interner: Interner,
    /// Index of an end, and the position of the commit.
    order: HashMap<u64, i64>,
}

impl Told {
    fn of(history: &History) -> Self {
        let mut events: Vec<_> = history
            .transactions
            .iter()
            .flat_map(|one| [(one.began, OpType::Invoke, one), (one.ended, ended(one), one)])
            .collect();
        events.sort_by_key(|(place, _, one)| (*place, one.thread));
        let mut told =
            Self { ops: Vec::new(), interner: Interner::default(), order: HashMap::new() };
        for (index, (_, kind, one)) in events.into_iter().enumerate() {
            let index = to_u64(index);
            if let (Some(lsn), true) = (one.commit_lsn, kind != OpType::Invoke) {
                let place = i64::try_from(lsn).expect("the log has not that many bytes");
                told.order.insert(index, place);
            }
            let value = one.steps.iter().map(|step| told.mop(step, kind, history.kind)).collect();
            let process = Some(i64::from(one.thread));
            told.ops.push(Op { index, kind, process, value, time: None });
        }
        told
    }

    fn mop(&mut self, step: &Step, kind: OpType, values: Kind) -> Mop {
        let mut id = |number: u32| self.interner.intern(Scalar::Int(i64::from(number)));
        match step {
            Step::Write { key, element } => {
                let (key, value) = (id(*key), id(*element));
                match values {
                    Kind::Lists => Mop::Append { key, value },
                    Kind::Registers => Mop::Write { key, value },
                }
            }
            Step::Read { key, found } => {
                let key = id(*key);
                let value = match (kind, values) {
                    (OpType::Ok, Kind::Lists) => {
                        ReadValue::List(found.iter().map(|&element| id(element)).collect())
                    }
                    (OpType::Ok, Kind::Registers) => found
                        .last()
                        .map_or(ReadValue::Nil, |&element| ReadValue::Scalar(id(element))),
                    _ => ReadValue::Nil,
                };
                Mop::Read { key, value }
            }
        }
    }
}

fn ended(transaction: &Transaction) -> OpType {
    match transaction.ending {
        Ending::Committed => OpType::Ok,
        Ending::Aborted => OpType::Fail,
        Ending::Unknown => OpType::Info,
    }
}
