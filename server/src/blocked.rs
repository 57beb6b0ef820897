//! A client that waits for something, and that others may let go: CLIENT UNBLOCK.

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// How a wait ends by another client's wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unblock {
    /// As if its time were over.
    Timeout,
    /// With an error.
    Error,
}

/// Whether a client waits.
#[derive(Debug, Default)]
pub(crate) struct Blocked(Mutex<Option<oneshot::Sender<Unblock>>>);

impl Blocked {
    /// The client waits from now on; gives what others make of it.
    pub(crate) fn begin(&self) -> oneshot::Receiver<Unblock> {
        let (sender, receiver) = oneshot::channel();
        *self.0.lock() = Some(sender);
        receiver
    }

    /// The wait is over.
    pub(crate) fn end(&self) {
        *self.0.lock() = None;
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.0.lock().is_some()
    }

    /// Ends the wait. `false` where there is none.
    pub(crate) fn unblock(&self, how: Unblock) -> bool {
        let waiting = self.0.lock().take();
        waiting.is_some_and(|sender| sender.send(how).is_ok())
    }
}
