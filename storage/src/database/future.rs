//! Commits that return before they are done.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use seawall_wal::{Lsn, Result};

use super::core::{Shared, in_doubt};

/// A commit on its way to stable storage. It is in the log already, and takes place whether or not
/// anybody waits for it; dropping this undoes nothing.
///
/// It resolves to the commit's LSN when the commit is as durable as was asked and every reader sees
/// it. [`Error::CommitUnknown`](crate::Error::CommitUnknown): its flush failed. No runtime is needed.
#[must_use = "until it resolves, a commit is not acknowledged"]
pub struct CommitFuture {
    shared: Arc<Shared>,
    lsn: Lsn,
    is_durable: bool,
}

impl CommitFuture {
    pub(super) fn new(shared: &Arc<Shared>, lsn: Lsn, is_durable: bool) -> Self {
        Self { shared: Arc::clone(shared), lsn, is_durable }
    }

    /// The commit's position in the log.
    #[must_use]
    pub const fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Waits on this thread, which may write the log itself.
    ///
    /// # Errors
    /// [`Error::CommitUnknown`](crate::Error::CommitUnknown).
    pub fn wait(self) -> Result<Lsn> {
        if self.is_durable {
            let durable = self.shared.core.engine.log.wait_durable(self.lsn);
            durable.map_err(|error| in_doubt(self.lsn, error))?;
        }
        self.shared.core.wait_for(self.lsn)?;
        Ok(self.lsn)
    }
}

impl Future for CommitFuture {
    type Output = Result<Lsn>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let log = &self.shared.core.engine.log;
        match log.poll_visible(self.lsn, self.is_durable, context.waker()) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => Poll::Ready(Ok(self.lsn)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(in_doubt(self.lsn, error))),
        }
    }
}

impl fmt::Debug for CommitFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitFuture").field("lsn", &self.lsn).finish_non_exhaustive()
    }
}
