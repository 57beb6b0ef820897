//! What is there, compared with what must be.

use anyhow::{Result, ensure};

use crate::engine::{Engine, Session};
use crate::input::{Values, key};

/// Whether all pairs are in order, each value is whole and its key's, and there are `count` of them.
pub(super) fn verify<E: Engine>(engine: &E, values: &Values, count: u64) -> Result<()> {
    let mut last = Vec::new();
    let mut bad = 0_u64;
    let found = engine.session()?.scan(&[], u64::MAX, |key, value| {
        if *last >= *key || values.check_whole(key, value).is_none() {
            bad += 1;
        }
        last.clear();
        last.extend_from_slice(key);
    })?;
    ensure!(bad == 0, "{bad} pairs are out of order or have another value than was written");
    ensure!(found == count, "{found} pairs are there in place of {count}");
    Ok(())
}

/// Looks at pairs of a scan cheaply: order, whose value it is, how many.
#[derive(Debug)]
pub(super) struct ScanCheck<'v> {
    values: &'v Values,
    last: u64,
    bad: u64,
    /// Sum of the values' heads.
    pub(super) sum: u64,
}

impl<'v> ScanCheck<'v> {
    pub(super) const fn new(values: &'v Values) -> Self {
        Self { values, last: 0, bad: 0, sum: 0 }
    }

    pub(super) fn visit(&mut self, key: &[u8], value: &[u8]) {
        let first = key.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
        let head = self.values.check(key, value);
        self.bad += u64::from(first < self.last || head.is_none());
        self.last = first;
        self.sum = self.sum.wrapping_add(head.unwrap_or_default());
    }

    /// Whether the scan that visited `found` pairs was right. It may be shorter than `limit` where it came
    /// to the highest key.
    pub(super) fn finish(&self, found: u64, limit: u64, highest: u64) -> Result<u64> {
        ensure!(self.bad == 0, "a scan met {} pairs that are wrong", self.bad);
        ensure!(
            found == limit || self.last >= highest,
            "a scan ended after {found} of {limit} pairs"
        );
        Ok(found)
    }
}

/// The first eight bytes of the highest key with a number below `count`, as the order of keys has them.
pub(super) fn highest(count: u64) -> u64 {
    let first = |number| key(number).first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
    (0..count).map(first).max().unwrap_or_default()
}

/// Reads the value of a key that must be there. Returns 1, the pairs that were touched.
pub(super) fn get<S: Session>(session: &mut S, values: &Values, number: u64) -> Result<u64> {
    let key = key(number);
    let checked = session.get(&key, |value| values.check(&key, value).is_some())?;
    ensure!(checked == Some(true), "key number {number} is not there, or has another's value");
    Ok(1)
}
