//! The connections that there are, as CLIENT sees them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::blocked::Blocked;
use crate::clock;
use crate::outbox::Outbox;
use crate::pubsub::{Kind, Subscriptions};
use crate::resp::Protocol;

/// What others may know of a connection, and do to it.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: u64,
    pub(crate) address: SocketAddr,
    pub(crate) local: SocketAddr,
    created_ms: u64,
    pub(crate) name: Mutex<Vec<u8>>,
    pub(crate) library: Mutex<(String, String)>,
    pub(crate) last_command: Mutex<&'static str>,
    pub(crate) database: AtomicUsize,
    is_resp3: AtomicBool,
    /// Commands queued by MULTI; -1 outside of one, as CLIENT LIST says it.
    pub(crate) queued: std::sync::atomic::AtomicI64,
    pub(crate) watched: AtomicUsize,
    active_ms: AtomicU64,
    is_killed: AtomicBool,
    pub(crate) woken: Notify,
    /// Whether it is shown every command.
    is_monitor: AtomicBool,
    /// Whether it waits for something.
    pub(crate) blocked: Blocked,
    /// What others push to it.
    pub(crate) outbox: Outbox,
    /// Subscriptions, by [`Kind`].
    subscribed: [AtomicUsize; 3],
}

impl Client {
    /// Ends the connection, by another one's wish.
    pub(crate) fn kill(&self) {
        self.is_killed.store(true, Ordering::SeqCst);
        self.woken.notify_one();
    }

    pub(crate) fn is_killed(&self) -> bool {
        self.is_killed.load(Ordering::SeqCst)
    }

    /// Notes which protocol it is answered in.
    pub(crate) fn speaks(&self, protocol: Protocol) {
        self.is_resp3.store(protocol == Protocol::Resp3, Ordering::Relaxed);
    }

    pub(crate) fn is_resp3(&self) -> bool {
        self.is_resp3.load(Ordering::Relaxed)
    }

    /// Notes how much it has subscribed to.
    pub(crate) fn subscribed(&self, own: &Subscriptions) {
        for kind in Kind::ALL {
            self.subscribed[kind as usize].store(own.count(kind), Ordering::Relaxed);
        }
    }

    fn subscriptions(&self, kind: Kind) -> usize {
        self.subscribed[kind as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn is_subscriber(&self) -> bool {
        Kind::ALL.into_iter().any(|kind| self.subscriptions(kind) > 0)
    }

    /// Notes whether it is shown every command.
    pub(crate) fn watches(&self, is_monitor: bool) {
        self.is_monitor.store(is_monitor, Ordering::Relaxed);
    }

    /// The letters of CLIENT LIST: MONITOR, subscribed, in MULTI, waiting, or nothing of it.
    fn flags(&self) -> String {
        let is_queueing = self.queued.load(Ordering::Relaxed) >= 0;
        let letters = [
            (self.is_monitor.load(Ordering::Relaxed), 'O'),
            (self.is_subscriber(), 'P'),
            (is_queueing, 'x'),
            (self.blocked.is_blocked(), 'b'),
        ];
        let flags: String = letters.iter().filter(|(is, _)| *is).map(|(_, flag)| flag).collect();
        if flags.is_empty() { "N".into() } else { flags }
    }

    /// Notes that it has asked for something.
    pub(crate) fn active(&self, now_ms: u64) {
        self.active_ms.store(now_ms, Ordering::Relaxed);
    }

    /// The line of CLIENT LIST.
    pub(crate) fn describe(&self) -> String {
        let now_ms = clock::now_ms();
        let age = now_ms.saturating_sub(self.created_ms) / 1000;
        let idle = now_ms.saturating_sub(self.active_ms.load(Ordering::Relaxed)) / 1000;
        let queued = self.queued.load(Ordering::Relaxed);
        let flags = self.flags();
        let resp = if self.is_resp3() { 3 } else { 2 };
        let [sub, psub, ssub] = Kind::ALL.map(|kind| self.subscriptions(kind));
        let name = String::from_utf8_lossy(&self.name.lock()).into_owned();
        let command = *self.last_command.lock();
        format!(
            "id={} addr={} laddr={} fd=0 name={name} age={age} idle={idle} flags={flags} db={} \
             sub={sub} psub={psub} ssub={ssub} multi={queued} qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 \
             oll=0 omem=0 tot-mem=0 events=r cmd={command} user=default redir=-1 resp={resp}",
            self.id,
            self.address,
            self.local,
            self.database.load(Ordering::Relaxed),
        )
    }
}

/// All connections, by id.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    all: Mutex<BTreeMap<u64, Arc<Client>>>,
    next: AtomicU64,
}

impl Clients {
    /// Enters a connection, unless there are `most` already.
    pub(crate) fn enter(
        &self,
        address: SocketAddr,
        local: SocketAddr,
        most: u64,
    ) -> Option<Arc<Client>> {
        let mut all = self.all.lock();
        if u64::try_from(all.len()).is_ok_and(|count| count >= most) {
            return None;
        }
        let now_ms = clock::now_ms();
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let client = Arc::new(Client {
            id,
            address,
            local,
            created_ms: now_ms,
            name: Mutex::default(),
            library: Mutex::default(),
            last_command: Mutex::new("NULL"),
            database: AtomicUsize::new(0),
            is_resp3: AtomicBool::new(false),
            queued: std::sync::atomic::AtomicI64::new(-1),
            watched: AtomicUsize::new(0),
            active_ms: AtomicU64::new(now_ms),
            is_killed: AtomicBool::new(false),
            woken: Notify::new(),
            is_monitor: AtomicBool::new(false),
            blocked: Blocked::default(),
            outbox: Outbox::default(),
            subscribed: Default::default(),
        });
        all.insert(id, Arc::clone(&client));
        Some(client)
    }

    pub(crate) fn leave(&self, id: u64) {
        self.all.lock().remove(&id);
    }

    pub(crate) fn all(&self) -> Vec<Arc<Client>> {
        self.all.lock().values().cloned().collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.all.lock().len()
    }

    /// How many wait for something.
    pub(crate) fn blocked(&self) -> usize {
        self.all.lock().values().filter(|client| client.blocked.is_blocked()).count()
    }
}
