//! How one transaction runs, where it differs from the database's options.

use crate::{Durability, Isolation};

/// Most times that `transact` runs a transaction again after a conflict,
/// unless asked otherwise.
const MAX_RETRIES_DEFAULT: u32 = 1000;

/// How a transaction runs. What is not set is as in the database's [`Options`](crate::Options).
///
/// ```
/// use seawall::{Durability, Isolation, TransactionOptions};
///
/// let options =
///     TransactionOptions::new().isolation(Isolation::Snapshot).durability(Durability::Relaxed);
/// # drop(options);
/// ```
#[derive(Clone, Debug)]
pub struct TransactionOptions {
    pub(crate) isolation: Option<Isolation>,
    pub(crate) durability: Option<Durability>,
    pub(crate) max_retries: u32,
}

impl TransactionOptions {
    /// Isolation and durability of the database, and 1000 retries.
    #[must_use]
    pub const fn new() -> Self {
        Self { isolation: None, durability: None, max_retries: MAX_RETRIES_DEFAULT }
    }

    /// What it sees of others.
    #[must_use]
    pub const fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = Some(isolation);
        self
    }

    /// When its commit returns, unless the commit itself says.
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// How many times a conflict makes `transact_with` run it again before it returns
    /// [`Error::Conflict`](crate::Error::Conflict); 0 is never.
    #[must_use]
    pub const fn max_retries(mut self, count: u32) -> Self {
        self.max_retries = count;
        self
    }
}

impl Default for TransactionOptions {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_RETRIES_DEFAULT, TransactionOptions};
    use crate::{Durability, Isolation};

    #[test]
    fn nothing_is_set_unless_asked_for() {
        let options = TransactionOptions::default();
        assert_eq!((options.isolation, options.durability), (None, None));
        assert_eq!(options.max_retries, MAX_RETRIES_DEFAULT);
    }

    #[test]
    fn what_is_asked_for_is_set() {
        let options = TransactionOptions::new()
            .isolation(Isolation::Snapshot)
            .durability(Durability::Relaxed)
            .max_retries(0);
        assert_eq!(options.isolation, Some(Isolation::Snapshot));
        assert_eq!(options.durability, Some(Durability::Relaxed));
        assert_eq!(options.max_retries, 0);
    }
}
