//! What a connection has said about itself: database, protocol, MULTI, WATCH.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use seawall::{Durability, Lsn};

use crate::begun::Begun;
use crate::clients::Client;
use crate::command::Command;
use crate::job::Job;
use crate::keyspace::{Keyspace, View, Watch};
use crate::resp::{Limits, OwnedRequest};

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
            is_quitting: false,
        }
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
