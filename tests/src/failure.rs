//! Why a run failed: the engine gave another answer than the oracle, or an error.

use std::fmt;

use seawall::Error;

/// Why a run failed.
#[derive(Clone, Debug)]
pub struct Failure {
    why: String,
    error: Option<Error>,
    is_finding: bool,
}

/// What a run comes to.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure for this reason.
    pub fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), error: None, is_finding: false }
    }

    /// What a verification found. Where reads fail, it finds that they do.
    pub fn finding(why: impl Into<String>) -> Self {
        Self { is_finding: true, ..Self::new(why) }
    }

    /// Whether it is what a verification found.
    #[must_use]
    pub const fn is_finding(&self) -> bool {
        self.is_finding
    }

    /// The same, with where it happened before it.
    #[must_use]
    pub fn at(self, place: impl fmt::Display) -> Self {
        Self { why: format!("{place}: {}", self.why), ..self }
    }

    /// The engine's error, where that is the reason.
    #[must_use]
    pub const fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { why: format!("{error:?}"), error: Some(error), is_finding: false }
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
