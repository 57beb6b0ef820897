//! Operations under which the power is cut.
//!
//! | input | |
//! |---|---|
//! | 1 byte | settings |
//! | 1 byte | how many keys there are, how long values get |
//! | 2 bytes | the operation of the disk before which the power goes off |
//! | 1 byte | 1: recoveries are cut as well; 2: each record has a frame of its own; the rest: seed of the crashes |
//! | 3 bytes each | an operation, or a few that belong together |

use seawall::Isolation;
use seawall_wal::codec::to_usize;

use super::input::Input;
use crate::crash::{Effort, run_cut};
use crate::generate::Generator;
use crate::operation::Operation;
use crate::random::Random;
use crate::scenario::Scenario;
use crate::settings::Settings;

/// Bytes of an operation.
const OPERATION_BYTES: usize = 3;
/// Operations of an input; the rest of it says nothing.
const OPERATIONS_MAX: usize = 120;
/// Where recoveries are cut, of so many crashed states one.
const SECOND_ONE_IN: u64 = 8;

/// Does operations, every answer compared with the oracle's, and cuts the power at one place, in every
/// way that the disk knows: what is left is a state that the oracle allows.
pub fn operations(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut settings = Settings::random(&mut Random::new(input.number(1)));
    settings.isolation = Isolation::Serializable;
    let mut generator = Generator::new(input.number(1));
    let (cut, flags) = (to_usize(input.number(2)), input.byte());
    settings.is_record_alone = flags & 2 == 2;
    settings.seed = u64::from(flags >> 2);
    let mut numbers = Vec::new();
    while !input.is_empty() && numbers.len() < OPERATIONS_MAX {
        numbers.push(input.number(OPERATION_BYTES));
    }
    let mut operations = generator.by_numbers(numbers);
    // A kill goes on with another disk than the one that is recorded.
    operations.retain(|operation| !matches!(operation, Operation::Kill));
    let scenario = Scenario {
        name: "of a fuzzer".into(),
        settings,
        prepare: Vec::new(),
        operations,
        is_creation_recorded: false,
        must_open_windows: false,
    };
    let second_one_in = if flags & 1 == 1 { SECOND_ONE_IN } else { 0 };
    let effort = Effort { seeds: 1, second_one_in, third_one_in: 0, is_first_failure_enough: true };
    if let Some(why) = run_cut(&scenario, cut, effort).failures.first() {
        panic!("{why}\n{:#?}", scenario.operations);
    }
}
