//! Why a run failed: the engine gave another answer than the oracle, or an error.

use std::fmt;

use seawall::Error;

/// Why a run failed.
#[derive(Clone, Debug)]
pub struct Failure(String);

/// What a run comes to.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure for this reason.
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }

    /// The same, with where it happened before it.
    #[must_use]
    pub fn at(self, place: impl fmt::Display) -> Self {
        Self(format!("{place}: {}", self.0))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(format!("{error:?}"))
    }
}

/// Fails with a formatted reason unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($reason:tt)+) => {
        if !$condition {
            return Err($crate::failure::Failure::new(format!($($reason)+)));
        }
    };
}
