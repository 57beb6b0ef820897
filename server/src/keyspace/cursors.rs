//! Where scans go on, by the number that the client was given.
//!
//! Keys have an order that never changes, so a scan that goes on behind the last key it has returned
//! meets every key that is there all the time, each once. A cursor that is not known (forgotten for
//! newer ones, from before a restart, of another database, or made up) stands for the beginning: such a
//! scan returns some keys twice, and misses none, which is what Redis promises.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;

use crate::limits::CURSORS_MAX;

/// A place in a space: behind this key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    space: u64,
    key: Vec<u8>,
}

/// All scans that are under way.
#[derive(Debug)]
pub(crate) struct Cursors(Mutex<Given>);

#[derive(Debug)]
struct Given {
    places: HashMap<u64, Place>,
    /// In the order in which they were given, the oldest first.
    order: VecDeque<u64>,
    last: u64,
}

impl Cursors {
    /// Cursors are numbered from behind `first`, which no earlier run may have reached: the time in
    /// microseconds is such a number.
    pub(crate) fn new(first: u64) -> Self {
        Self(Mutex::new(Given { places: HashMap::new(), order: VecDeque::new(), last: first }))
    }

    /// A cursor that goes on behind `key`.
    pub(crate) fn give(&self, space: u64, key: Vec<u8>) -> u64 {
        let mut given = self.0.lock();
        if given.order.len() == CURSORS_MAX
            && let Some(oldest) = given.order.pop_front()
        {
            given.places.remove(&oldest);
        }
        given.last += 1;
        let cursor = given.last;
        given.places.insert(cursor, Place { space, key });
        given.order.push_back(cursor);
        cursor
    }

    /// The key behind which the scan of this space goes on; `None`: at the beginning.
    pub(crate) fn place(&self, space: u64, cursor: u64) -> Option<Vec<u8>> {
        let given = self.0.lock();
        given
            .places
            .get(&cursor)
            .filter(|place| place.space == space)
            .map(|place| place.key.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_belongs_to_its_space_and_an_unknown_one_to_the_beginning() {
        let cursors = Cursors::new(7);
        let cursor = cursors.give(1, b"key".to_vec());
        assert!(cursor > 7, "zero begins and ends a scan");
        assert_eq!(cursors.place(1, cursor).as_deref(), Some(&b"key"[..]));
        assert_eq!(cursors.place(1, cursor).as_deref(), Some(&b"key"[..]), "it may be used again");
        assert_eq!(cursors.place(2, cursor), None);
        assert_eq!(cursors.place(1, cursor + 1), None);
    }

    #[test]
    fn the_oldest_cursor_is_forgotten_for_the_newest() {
        let cursors = Cursors::new(0);
        let first = cursors.give(1, b"first".to_vec());
        let second = cursors.give(1, b"second".to_vec());
        for _ in 0..CURSORS_MAX - 1 {
            cursors.give(1, Vec::new());
        }
        assert_eq!(cursors.place(1, first), None);
        assert!(cursors.place(1, second).is_some());
        assert_eq!(cursors.0.lock().places.len(), CURSORS_MAX);
    }
}
