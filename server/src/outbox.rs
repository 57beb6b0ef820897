//! What others push to a connection, until it takes it: messages of channels, and the
//! lines of MONITOR.
//!
//! Who pushes never waits for who reads. The bytes are bounded by [`PUSHED_BYTES_MAX`], those among them
//! that are on their way to the socket too; a connection that takes too little is closed by whoever
//! reaches the bound. Pushes of one thread stay in their order.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::limits::PUSHED_BYTES_MAX;
use crate::resp::Reply;

/// Bytes that a push counts beside its texts.
const FRAME_BYTES: usize = 64;

/// What was published; all who get it share it.
#[derive(Debug)]
pub(crate) struct Message {
    /// `message`, `smessage`; of a pattern it is `pmessage`.
    pub(crate) kind: &'static str,
    pub(crate) channel: Box<[u8]>,
    pub(crate) payload: Box<[u8]>,
}

/// What a connection is sent without having asked for it now.
#[derive(Clone, Debug)]
pub(crate) enum Push {
    Message(Arc<Message>),
    /// With the pattern that has matched.
    Matched(Arc<[u8]>, Arc<Message>),
    /// A command, as MONITOR shows it.
    Line(Arc<[u8]>),
}

impl Push {
    fn held_bytes(&self) -> usize {
        FRAME_BYTES
            + match self {
                Self::Message(message) => message.channel.len() + message.payload.len(),
                Self::Matched(pattern, message) => {
                    pattern.len() + message.channel.len() + message.payload.len()
                }
                Self::Line(line) => line.len(),
            }
    }

    fn write(&self, reply: &mut Reply) {
        match self {
            Self::Message(message) => {
                reply.push(3);
                reply.bulk(message.kind.as_bytes());
                reply.bulk(&message.channel);
                reply.bulk(&message.payload);
            }
            Self::Matched(pattern, message) => {
                reply.push(4);
                reply.bulk(b"pmessage");
                reply.bulk(pattern);
                reply.bulk(&message.channel);
                reply.bulk(&message.payload);
            }
            Self::Line(line) => reply.raw_line(line),
        }
    }
}

/// Pushes to one connection.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    pushes: VecDeque<Push>,
    /// Of these pushes, and of what was taken and is not sent.
    bytes: usize,
    taken_bytes: usize,
    /// The bound was reached: nothing is kept any more.
    is_closed: bool,
}

impl Outbox {
    /// Adds a push. `false`, once, where the bound is reached: then the connection is to be ended.
    pub(crate) fn push(&self, push: Push) -> bool {
        let mut queue = self.queue.lock();
        if queue.is_closed {
            return true;
        }
        let bytes = queue.bytes + push.held_bytes();
        if bytes > PUSHED_BYTES_MAX {
            queue.is_closed = true;
            queue.pushes = VecDeque::new();
            return false;
        }
        queue.bytes = bytes;
        queue.pushes.push_back(push);
        drop(queue);
        self.filled.notify_one();
        true
    }

    /// Writes all pushes behind what `reply` has. They count until [`Outbox::sent`].
    pub(crate) fn take(&self, reply: &mut Reply) {
        let mut queue = self.queue.lock();
        let pushes = std::mem::take(&mut queue.pushes);
        queue.taken_bytes += pushes.iter().map(Push::held_bytes).sum::<usize>();
        drop(queue);
        pushes.iter().for_each(|push| push.write(reply));
    }

    /// What was taken is out of the process.
    pub(crate) fn sent(&self) {
        let mut queue = self.queue.lock();
        queue.bytes -= std::mem::take(&mut queue.taken_bytes);
    }

    /// Resolves when there is something to take.
    pub(crate) async fn filled(&self) {
        while self.queue.lock().pushes.is_empty() {
            self.filled.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload_bytes: usize) -> Push {
        let payload = vec![b'x'; payload_bytes].into_boxed_slice();
        Push::Message(Arc::new(Message { kind: "message", channel: Box::default(), payload }))
    }

    #[test]
    fn what_is_taken_counts_until_it_is_sent_and_the_bound_closes_once() {
        let outbox = Outbox::default();
        let half = PUSHED_BYTES_MAX / 2 - FRAME_BYTES;
        assert!(outbox.push(message(half)));
        let mut reply = Reply::default();
        outbox.take(&mut reply);
        assert!(reply.bytes.len() > half);
        outbox.sent();
        assert!(outbox.push(message(half)));
        outbox.take(&mut reply);
        assert!(outbox.push(message(half)));
        assert!(!outbox.push(message(0)), "what was taken is not sent yet");
        assert!(outbox.push(message(0)), "it is told once");
        assert!(outbox.queue.lock().pushes.is_empty());
    }
}
