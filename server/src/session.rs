//! What a connection has said about itself: database, protocol, MULTI, WATCH.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use seawall::{Durability, Lsn};

use crate::begun::Begun;
use crate::clients::Client;
use crate::command::Command;
use crate::job::Job;
use crate::keyspace::{Keyspace, View, Watch};
use crate::pubsub::Subscriptions;
use crate::resp::{Limits, OwnedRequest, Reply};

/// Commands between MULTI and EXEC.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) commands: Vec<(&'static Command, OwnedRequest)>,
    pub(crate) bytes: usize,
    /// One could not be queued: EXEC gives up.
    pub(crate) is_doomed: bool,
}

/// Which replies a client wants (CLIENT REPLY).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Replies {
    #[default]
    On,
    Off,
    /// Not that of the next command.
    SkipNext,
    /// Not that of this one.
    Skip,
}

/// The state of a connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Arc<Client>,
    pub(crate) database: usize,
    pub(crate) is_authenticated: bool,
    pub(crate) queue: Option<Queue>,
    pub(crate) watches: Vec<Watch>,
    pub(crate) replies: Replies,
    /// What it has asked for with SW.DURABILITY; otherwise the server's is its own.
    pub(crate) durability: Option<Durability>,
    /// What it reads since SW.SNAPSHOT.
    pub(crate) view: Option<Arc<View>>,
    /// What it has begun with SW.BEGIN.
    pub(crate) begun: Option<Begun>,
    /// The end of its last commit; 0 before the first.
    pub(crate) last_commit: Lsn,
    /// What its last command has left to be waited for.
    pub(crate) job: Option<Job>,
    pub(crate) subscriptions: Subscriptions,
    /// It is shown every command (MONITOR).
    pub(crate) is_monitor: bool,
    /// EXEC runs what was queued: nothing waits.
    pub(crate) is_executing: bool,
    /// The reply confirms subscriptions: the client gets it whatever it has said with CLIENT REPLY.
    pub(crate) is_confirming: bool,
    /// Pushes were written to the replies that are not sent.
    pub(crate) has_pushes: bool,
    /// The connection ends behind this reply.
    pub(crate) is_quitting: bool,
}

impl Session {
    pub(crate) fn new(client: Arc<Client>, is_authenticated: bool) -> Self {
        Self {
            client,
            database: 0,
            is_authenticated,
            queue: None,
            watches: Vec::new(),
            replies: Replies::On,
            durability: None,
            view: None,
            begun: None,
            last_commit: Lsn::default(),
            job: None,
            subscriptions: Subscriptions::default(),
            is_monitor: false,
            is_executing: false,
            is_confirming: false,
            has_pushes: false,
            is_quitting: false,
        }
    }

    /// Whether others may push to it.
    pub(crate) fn is_listening(&self) -> bool {
        self.is_monitor || self.subscriptions.count_all() > 0
    }

    /// Whether it may only say what concerns its subscriptions, as RESP2 cannot tell messages from replies.
    pub(crate) fn is_restricted(&self) -> bool {
        self.subscriptions.count_all() > 0 && !self.client.is_resp3()
    }

    /// Tells others how much it has subscribed to.
    pub(crate) fn tell_subscriptions(&self) {
        self.client.subscribed(&self.subscriptions);
    }

    /// Writes what was pushed behind what `reply` has.
    pub(crate) fn take_pushes(&mut self, reply: &mut Reply) {
        self.client.outbox.take(reply);
        self.has_pushes = true;
    }

    pub(crate) const fn limits(&self) -> Limits {
        if self.is_authenticated { Limits::AUTHENTICATED } else { Limits::BEFORE_AUTH }
    }

    pub(crate) fn select(&mut self, database: usize) {
        self.database = database;
        self.client.database.store(database, Ordering::Relaxed);
    }

    /// Ends MULTI without EXEC.
    pub(crate) fn discard(&mut self, keyspace: Option<&Keyspace>) {
        self.queue = None;
        self.client.queued.store(-1, Ordering::Relaxed);
        self.unwatch(keyspace);
    }

    pub(crate) fn unwatch(&mut self, keyspace: Option<&Keyspace>) {
        if let Some(keyspace) = keyspace {
            for watch in self.watches.drain(..) {
                keyspace.watches.unwatch(&watch);
            }
        }
        self.client.watched.store(self.watches.len(), Ordering::Relaxed);
    }
}
