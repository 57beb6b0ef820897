//! Who has subscribed to what, and the way of a message to its subscribers.
//!
//! One table for each kind of name, behind a lock that publishers share and subscribers change. Who
//! publishes puts the message into the outbox of each subscriber while it holds the lock, so that
//! messages of one publisher come in their order, and none comes behind the answer to UNSUBSCRIBE.
//! Nothing here touches the database: messages are neither logged nor waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::clients::Client;
use crate::glob;
use crate::outbox::{Message, Push};

/// What a connection subscribes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Channel,
    Pattern,
    /// A channel of SSUBSCRIBE; without a cluster a name space of its own, and no more.
    Shard,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Channel, Self::Pattern, Self::Shard];
}

/// Names, and the connections that have subscribed to each, by id.
type Table = BTreeMap<Arc<[u8]>, BTreeMap<u64, Arc<Client>>>;

/// All subscriptions.
#[derive(Debug, Default)]
pub(crate) struct PubSub {
    tables: RwLock<[Table; 3]>,
}

/// The subscriptions of one connection.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    names: [BTreeSet<Arc<[u8]>>; 3],
    /// Of all names.
    pub(crate) bytes: usize,
}

impl Subscriptions {
    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.names[kind as usize].len()
    }

    pub(crate) fn count_all(&self) -> usize {
        self.names.iter().map(BTreeSet::len).sum()
    }

    pub(crate) fn names(&self, kind: Kind) -> Vec<Arc<[u8]>> {
        self.names[kind as usize].iter().cloned().collect()
    }
}

impl PubSub {
    /// Subscribes, unless the connection has already.
    pub(crate) fn subscribe(
        &self,
        client: &Arc<Client>,
        own: &mut Subscriptions,
        kind: Kind,
        name: &[u8],
    ) {
        let mut tables = self.tables.write();
        let table = &mut tables[kind as usize];
        let name: Arc<[u8]> = match table.get_key_value(name) {
            Some((shared, _)) => Arc::clone(shared),
            None => Arc::from(name),
        };
        if own.names[kind as usize].insert(Arc::clone(&name)) {
            own.bytes += name.len();
            table.entry(name).or_default().insert(client.id, Arc::clone(client));
        }
    }

    /// Ends a subscription, if there is one. No message of it is pushed from here on.
    pub(crate) fn unsubscribe(
        &self,
        client: &Client,
        own: &mut Subscriptions,
        kind: Kind,
        name: &[u8],
    ) {
        if !own.names[kind as usize].remove(name) {
            return;
        }
        own.bytes -= name.len();
        let mut tables = self.tables.write();
        let table = &mut tables[kind as usize];
        if let Some(subscribers) = table.get_mut(name) {
            subscribers.remove(&client.id);
            if subscribers.is_empty() {
                table.remove(name);
            }
        }
    }

    /// Ends all subscriptions of a connection.
    pub(crate) fn leave(&self, client: &Client, own: &mut Subscriptions) {
        for kind in Kind::ALL {
            for name in own.names(kind) {
                self.unsubscribe(client, own, kind, &name);
            }
        }
    }

    /// Hands a message to `deliver` for each subscriber of a channel and of the patterns that match it.
    /// Returns how many that were; one with two subscriptions that fit counts twice.
    pub(crate) fn publish(
        &self,
        kind: Kind,
        channel: &[u8],
        payload: &[u8],
        mut deliver: impl FnMut(&Client, Push),
    ) -> usize {
        let tables = self.tables.read();
        let subscribers = tables[kind as usize].get(channel);
        let patterns = (kind == Kind::Channel).then(|| &tables[Kind::Pattern as usize]);
        let matching = patterns.into_iter().flatten();
        let mut matching =
            matching.filter(|(pattern, _)| glob::matches(pattern, channel)).peekable();
        if subscribers.is_none() && matching.peek().is_none() {
            return 0;
        }
        let message = Arc::new(Message {
            kind: if kind == Kind::Shard { "smessage" } else { "message" },
            channel: channel.into(),
            payload: payload.into(),
        });
        let mut count = 0;
        for client in subscribers.into_iter().flat_map(BTreeMap::values) {
            deliver(client, Push::Message(Arc::clone(&message)));
            count += 1;
        }
        for (pattern, clients) in matching {
            for client in clients.values() {
                deliver(client, Push::Matched(Arc::clone(pattern), Arc::clone(&message)));
                count += 1;
            }
        }
        count
    }

    /// Names that somebody has subscribed to and that match, in their order.
    pub(crate) fn names(&self, kind: Kind, pattern: Option<&[u8]>) -> Vec<Arc<[u8]>> {
        let tables = self.tables.read();
        let names = tables[kind as usize].keys();
        let is_shown =
            |name: &&Arc<[u8]>| pattern.is_none_or(|pattern| glob::matches(pattern, name));
        names.filter(is_shown).cloned().collect()
    }

    /// How many different names of a kind somebody has subscribed to.
    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.tables.read()[kind as usize].len()
    }

    pub(crate) fn subscribers(&self, kind: Kind, name: &[u8]) -> usize {
        self.tables.read()[kind as usize].get(name).map_or(0, BTreeMap::len)
    }
}
