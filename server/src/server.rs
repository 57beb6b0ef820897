//! What all connections of a server share.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use seawall::{Event, RecoveryPhase};
use tokio::sync::watch;

use crate::calls::AllCalls;
use crate::clients::{Client, Clients};
use crate::clock;
use crate::command::{Command, flag};
use crate::config::Config;
use crate::descriptors;
use crate::failure::Failure;
use crate::keyspace::Keyspace;
use crate::latency::{self, Latency, Sample};
use crate::monitor::Monitors;
use crate::outbox::Push;
use crate::pubsub::PubSub;
use crate::resp::Args;
use crate::session::Session;
use crate::settings::Settings;
use crate::slowlog::SlowLog;

/// Counters of INFO.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connections: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) commands: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) hits: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) input_bytes: AtomicU64,
    pub(crate) output_bytes: AtomicU64,
    /// Connections that were closed because they took too little of what others push.
    pub(crate) overflowed: AtomicU64,
}

impl Counters {
    pub(crate) fn reset(&self) {
        let all = [
            &self.connections,
            &self.rejected,
            &self.commands,
            &self.errors,
            &self.hits,
            &self.misses,
            &self.input_bytes,
            &self.output_bytes,
            &self.overflowed,
        ];
        all.iter().for_each(|counter| counter.store(0, Ordering::Relaxed));
    }
}

/// How far the server has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Serving,
    /// No new connections; what is running is finished.
    Stopping,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) config: Config,
    pub(crate) settings: Settings,
    pub(crate) clients: Clients,
    pub(crate) pubsub: PubSub,
    pub(crate) monitors: Monitors,
    pub(crate) stats: Counters,
    pub(crate) calls: AllCalls,
    pub(crate) slowlog: SlowLog,
    pub(crate) latency: Latency,
    pub(crate) started: Instant,
    /// Forty hexadecimal digits that no other run has.
    pub(crate) run_id: String,
    keyspace: OnceLock<Arc<Keyspace>>,
    progress: Arc<Progress>,
    addresses: Mutex<Vec<SocketAddr>>,
    stage: watch::Sender<Stage>,
}

/// How far opening the database has come.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<Option<(RecoveryPhase, u64, u64)>>);

impl Progress {
    pub(crate) fn note(&self, event: &Event) {
        if let Event::RecoveryProgress { phase, done, total } = event {
            *self.0.lock() = Some((*phase, *done, *total));
        }
    }
}

impl Server {
    pub(crate) fn new(config: Config, run_id: String) -> Self {
        Self {
            settings: Settings::new(&config, descriptors::clients_possible()),
            config,
            clients: Clients::default(),
            pubsub: PubSub::default(),
            monitors: Monitors::default(),
            stats: Counters::default(),
            calls: AllCalls::new(),
            slowlog: SlowLog::default(),
            latency: Latency::default(),
            started: Instant::now(),
            run_id,
            keyspace: OnceLock::new(),
            progress: Arc::default(),
            addresses: Mutex::default(),
            stage: watch::Sender::new(Stage::Serving),
        }
    }

    /// Pushes to a connection, and ends it where it has left too much behind.
    pub(crate) fn push(&self, client: &Client, push: Push) {
        if !client.outbox.push(push) {
            self.stats.overflowed.fetch_add(1, Ordering::Relaxed);
            client.kill();
        }
    }

    /// Ends what others push to a connection.
    pub(crate) fn leave(&self, session: &mut Session) {
        self.pubsub.leave(&session.client, &mut session.subscriptions);
        session.tell_subscriptions();
        if std::mem::take(&mut session.is_monitor) {
            session.client.watches(false);
            self.monitors.leave(&session.client);
        }
    }

    /// Notes that a command was executed: its counters, who watches, and where it took long.
    pub(crate) fn executed(
        &self,
        session: &Session,
        command: &Command,
        args: Args<'_>,
        took: Duration,
        is_failed: bool,
    ) {
        self.calls.executed(command, took, is_failed);
        self.monitors.tell(session, command, args, |client, push| self.push(client, push));
        // What EXEC does has entries of its own.
        if self.settings.is_slow(took) && !command.has(flag::SKIP_SLOWLOG) {
            let entries_max = self.settings.slowlog_entries_max();
            self.slowlog.note(&session.client, command, args, took, entries_max);
        }
        let (threshold_ms, took_ms) = (self.settings.latency_threshold_ms(), took.as_millis());
        if threshold_ms > 0 && took_ms >= u128::from(threshold_ms) {
            let ms = u64::try_from(took_ms).unwrap_or(u64::MAX);
            let time_s = clock::now_ms() / 1000;
            self.latency.note(latency::event_of(command), Sample { time_s, ms });
        }
    }

    /// The databases, once they are open.
    pub(crate) fn keyspace(&self) -> Option<&Arc<Keyspace>> {
        self.keyspace.get()
    }

    pub(crate) fn opened(&self, keyspace: Arc<Keyspace>) {
        assert!(self.keyspace.set(keyspace).is_ok(), "the database is opened once");
    }

    pub(crate) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// What a command gets while the database is being opened.
    pub(crate) fn loading(&self) -> Failure {
        let text = match *self.progress.0.lock() {
            Some((phase, done, total)) => {
                format!("LOADING the database is recovering: {phase:?}, {done} of {total}")
            }
            None => return Failure::LOADING,
        };
        Failure::new(text)
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.lock().clone()
    }

    pub(crate) fn listens(&self, addresses: Vec<SocketAddr>) {
        *self.addresses.lock() = addresses;
    }

    /// Ends the server: connections finish what they do.
    pub(crate) fn stop(&self) {
        self.stage.send_replace(Stage::Stopping);
    }

    pub(crate) fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }
}
