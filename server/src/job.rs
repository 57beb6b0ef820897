//! What a command leaves to be waited for, while the connection's thread serves others: work that takes
//! long, in a thread of its own, and waits of clients, which have none.
//!
//! The command's handler starts it and leaves it in the session; the connection executes nothing more
//! until it has ended, and then writes its reply. A connection that is gone does not end it. At most
//! one of a kind runs at a time, so that clients cannot start threads without bound.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;

use crate::failure::{Failure, Outcome};
use crate::resp::Reply;

/// Writes the reply, when the work has ended well.
pub(crate) type Tell = Box<dyn FnOnce(&mut Reply) + Send>;

/// Work, or a wait, under way.
pub(crate) struct Job {
    done: Pin<Box<dyn Future<Output = Outcome<Tell>>>>,
    /// Nothing is done: it ends with its connection, or the server.
    pub(crate) is_wait: bool,
    /// Whether the client wants its reply (CLIENT REPLY).
    pub(crate) is_heard: bool,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("is_heard", &self.is_heard).finish_non_exhaustive()
    }
}

impl Job {
    /// Starts `work`; `tell` writes the reply from what it gives.
    pub(crate) fn start<T: Send + 'static>(
        name: &str,
        work: impl FnOnce() -> Outcome<T> + Send + 'static,
        tell: fn(&mut Reply, &T),
    ) -> Outcome<Self> {
        let (sender, done) = oneshot::channel();
        let run = move || {
            let told = work()
                .map(|result| -> Tell { Box::new(move |reply: &mut Reply| tell(reply, &result)) });
            // Nobody waits for it where the connection is gone.
            drop(sender.send(told));
        };
        std::thread::Builder::new()
            .name(format!("seawall-{name}"))
            .spawn(run)
            .map_err(|error| Failure::new(format!("ERR no thread for it: {error}")))?;
        let panicked = Failure::fixed("ERR the work has ended in a panic");
        let done = Box::pin(async { done.await.unwrap_or(Err(panicked)) });
        Ok(Self { done, is_wait: false, is_heard: true })
    }

    /// Waits; `tell` writes the reply when that has ended well.
    pub(crate) fn wait(
        waited: impl Future<Output = Outcome> + 'static,
        tell: impl FnOnce(&mut Reply) + Send + 'static,
    ) -> Self {
        let done = Box::pin(async { waited.await.map(|()| -> Tell { Box::new(tell) }) });
        Self { done, is_wait: true, is_heard: true }
    }

    /// Waits for its end. May be dropped and called again until it has told that.
    pub(crate) async fn ended(&mut self) -> Outcome<Tell> {
        self.done.as_mut().await
    }
}

/// Something that runs once at a time.
#[derive(Debug, Default)]
pub(crate) struct Single(Arc<AtomicBool>);

/// The right to be the one that runs, until dropped.
#[derive(Debug)]
pub(crate) struct Claim(Arc<AtomicBool>);

impl Single {
    /// `None` while another one runs.
    pub(crate) fn claim(&self) -> Option<Claim> {
        let was_taken = self.0.swap(true, Ordering::SeqCst);
        (!was_taken).then(|| Claim(Arc::clone(&self.0)))
    }

    pub(crate) fn is_running(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_given_once_until_it_is_dropped() {
        let single = Single::default();
        let claim = single.claim().unwrap();
        assert!(single.claim().is_none() && single.is_running());
        drop(claim);
        assert!(single.claim().is_some());
        assert!(!single.is_running());
    }

    #[test]
    fn what_panics_is_told_as_a_failure_and_gives_its_claim_back() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let single = Single::default();
        let claim = single.claim();
        let work = move || -> Outcome<()> {
            let _claim = claim;
            std::panic::resume_unwind(Box::new("on purpose"))
        };
        let mut job = Job::start("test", work, |_, ()| {}).unwrap();
        let ended = runtime.block_on(job.ended());
        assert!(ended.is_err_and(|failure| failure.text().contains("panic")));
        assert!(!single.is_running());
    }
}
