//! What CONFIG GET and CONFIG SET know: a table of parameters, and the values that commands look at.
//!
//! Parameters of Redis that mean nothing here are absent; CONFIG SET of them is an error, never a lie.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

use crate::config::Config;
use crate::failure::{Failure, Outcome};
use crate::limits;
use crate::number;
use crate::server::Server;

/// When the reply to a write leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fsync {
    Always,
    EverySecond,
    No,
}

impl Fsync {
    const NAMES: [(&'static str, Self); 3] =
        [("always", Self::Always), ("everysec", Self::EverySecond), ("no", Self::No)];
}

/// `slowlog-log-slower-than`, unless it is changed.
const SLOWER_THAN_US: i64 = 10_000;
/// `slowlog-max-len`, unless it is changed.
const SLOWLOG_ENTRIES: u64 = 128;

/// Values that may change while the server runs.
#[derive(Debug)]
pub(crate) struct Settings {
    fsync: AtomicU8,
    pub(crate) clients_max: AtomicU64,
    /// What the system leaves room for.
    clients_possible: u64,
    pub(crate) exec_rollback: AtomicBool,
    pub(crate) timeout_s: AtomicU64,
    /// Commands that take so long, in microseconds, are entered into the slow log; none where negative.
    slowlog_slower_than_us: AtomicI64,
    slowlog_entries_max: AtomicU64,
    /// Commands that take so long are spikes; nothing is watched where it is 0.
    latency_threshold_ms: AtomicU64,
    /// Empty: none is asked for.
    password: RwLock<String>,
    /// Whether others than this machine's programs can connect.
    is_exposed: bool,
}

impl Settings {
    /// For a process that has room for so many clients.
    pub(crate) fn new(config: &Config, clients_possible: u64) -> Self {
        let fsync = if config.is_relaxed { Fsync::EverySecond } else { Fsync::Always };
        Self {
            fsync: AtomicU8::new(fsync as u8),
            clients_max: AtomicU64::new(limits::CLIENTS_DEFAULT.min(clients_possible)),
            clients_possible,
            exec_rollback: AtomicBool::new(false),
            timeout_s: AtomicU64::new(0),
            slowlog_slower_than_us: AtomicI64::new(SLOWER_THAN_US),
            slowlog_entries_max: AtomicU64::new(SLOWLOG_ENTRIES),
            latency_threshold_ms: AtomicU64::new(0),
            password: RwLock::new(config.password.clone().unwrap_or_default()),
            is_exposed: config.listen.iter().any(|address| !address.ip().is_loopback()),
        }
    }

    pub(crate) fn apply(&self, change: Change) {
        match change {
            Change::Fsync(fsync) => self.fsync.store(fsync as u8, Ordering::Relaxed),
            Change::ExecRollback(is_on) => self.exec_rollback.store(is_on, Ordering::Relaxed),
            Change::ClientsMax(most) => self.clients_max.store(most, Ordering::Relaxed),
            Change::Password(password) => *self.password.write() = password,
            Change::TimeoutS(seconds) => self.timeout_s.store(seconds, Ordering::Relaxed),
            Change::LatencyThresholdMs(ms) => {
                self.latency_threshold_ms.store(ms, Ordering::Relaxed);
            }
            Change::SlowerThanUs(us) => self.slowlog_slower_than_us.store(us, Ordering::Relaxed),
            Change::SlowlogEntriesMax(most) => {
                self.slowlog_entries_max.store(most, Ordering::Relaxed);
            }
            Change::Nothing => {}
        }
    }

    /// How long a client may send nothing, or take nothing of its replies; without bound where absent.
    pub(crate) fn idle_time_max(&self) -> Option<Duration> {
        let timeout_s = self.timeout_s.load(Ordering::Relaxed);
        (timeout_s > 0).then(|| Duration::from_secs(timeout_s))
    }

    /// Whether a command that took so long belongs into the slow log.
    pub(crate) fn is_slow(&self, took: Duration) -> bool {
        let slower_than_us = self.slowlog_slower_than_us.load(Ordering::Relaxed);
        u128::try_from(slower_than_us).is_ok_and(|us| took.as_micros() >= us)
    }

    /// 0: nothing is watched.
    pub(crate) fn latency_threshold_ms(&self) -> u64 {
        self.latency_threshold_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn slowlog_entries_max(&self) -> usize {
        let most = self.slowlog_entries_max.load(Ordering::Relaxed);
        usize::try_from(most).unwrap_or(usize::MAX)
    }

    /// Whether replies to writes wait for the flush.
    pub(crate) fn is_sync(&self) -> bool {
        self.fsync.load(Ordering::Relaxed) == Fsync::Always as u8
    }

    pub(crate) fn asks_password(&self) -> bool {
        !self.password.read().is_empty()
    }

    /// Compares in a time that does not depend on where the passwords differ.
    pub(crate) fn is_password(&self, given: &[u8]) -> bool {
        use subtle::ConstantTimeEq as _;
        let password = self.password.read();
        bool::from(password.as_bytes().ct_eq(given))
    }
}

/// What a parameter is to become.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Fsync(Fsync),
    ExecRollback(bool),
    ClientsMax(u64),
    Password(String),
    TimeoutS(u64),
    LatencyThresholdMs(u64),
    SlowerThanUs(i64),
    SlowlogEntriesMax(u64),
    /// The only value that is possible.
    Nothing,
}

/// Reads a parameter's text; changes nothing.
pub(crate) type Parser = fn(&Settings, &str) -> Outcome<Change>;

/// A parameter: its name, and how it is read and written. Without `parse` it can only be given at start.
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) get: fn(&Server) -> String,
    pub(crate) parse: Option<Parser>,
}

/// Every parameter, by name.
pub(crate) const PARAMETERS: &[Parameter] = &[
    Parameter { name: "appendfsync", get: get_fsync, parse: Some(|_, value| parse_fsync(value)) },
    Parameter { name: "appendonly", get: |_| "yes".into(), parse: None },
    Parameter { name: "bind", get: get_bind, parse: None },
    Parameter { name: "databases", get: |_| limits::DATABASES.to_string(), parse: None },
    Parameter { name: "dir", get: |server| server.config.dir.display().to_string(), parse: None },
    Parameter {
        name: "exec-rollback",
        get: |server| yes_no(server.settings.exec_rollback.load(Ordering::Relaxed)),
        parse: Some(|_, value| parse_yes_no(value).map(Change::ExecRollback)),
    },
    Parameter {
        name: "latency-monitor-threshold",
        get: |server| server.settings.latency_threshold_ms().to_string(),
        parse: Some(|_, value| {
            parse_number(value, 0, i64::MAX.unsigned_abs()).map(Change::LatencyThresholdMs)
        }),
    },
    Parameter {
        name: "maxclients",
        get: |server| server.settings.clients_max.load(Ordering::Relaxed).to_string(),
        parse: Some(|settings, value| {
            let (most, possible) =
                (parse_number(value, 1, u32::MAX.into())?, settings.clients_possible);
            if most > possible {
                let why =
                    "The operating system is not able to handle the specified number of clients";
                return Err(Failure::new(format!("{why}, try with {possible}")));
            }
            Ok(Change::ClientsMax(most))
        }),
    },
    Parameter {
        name: "maxmemory",
        get: |_| "0".into(),
        parse: Some(|_, value| match is_memory_zero(value) {
            Some(true) => Ok(Change::Nothing),
            Some(false) => {
                Err(Failure::fixed("keys are on disk and nothing is evicted: only 0 is possible"))
            }
            None => Err(Failure::fixed("argument must be a memory value")),
        }),
    },
    Parameter { name: "maxmemory-policy", get: |_| "noeviction".into(), parse: None },
    Parameter { name: "port", get: get_port, parse: None },
    Parameter {
        name: "proto-max-bulk-len",
        get: |_| limits::BULK_BYTES_MAX.to_string(),
        parse: None,
    },
    Parameter {
        name: "requirepass",
        get: |server| server.settings.password.read().clone(),
        parse: Some(|settings, value| {
            if value.is_empty() && settings.is_exposed {
                let why = "a server that listens beyond loopback needs a password";
                return Err(Failure::fixed(why));
            }
            Ok(Change::Password(value.into()))
        }),
    },
    Parameter { name: "save", get: |_| String::new(), parse: None },
    Parameter {
        name: "slowlog-log-slower-than",
        get: |server| server.settings.slowlog_slower_than_us.load(Ordering::Relaxed).to_string(),
        parse: Some(|_, value| parse_number(value, -1, i64::MAX).map(Change::SlowerThanUs)),
    },
    Parameter {
        name: "slowlog-max-len",
        get: |server| server.settings.slowlog_entries_max.load(Ordering::Relaxed).to_string(),
        parse: Some(|_, value| {
            parse_number(value, 0, limits::SLOWLOG_ENTRIES_MAX).map(Change::SlowlogEntriesMax)
        }),
    },
    Parameter {
        name: "timeout",
        get: |server| server.settings.timeout_s.load(Ordering::Relaxed).to_string(),
        parse: Some(|_, value| {
            parse_number(value, 0, i32::MAX.unsigned_abs().into()).map(Change::TimeoutS)
        }),
    },
];

fn get_fsync(server: &Server) -> String {
    let fsync = server.settings.fsync.load(Ordering::Relaxed);
    Fsync::NAMES.iter().find(|(_, of)| *of as u8 == fsync).map_or("", |(name, _)| name).into()
}

fn parse_fsync(value: &str) -> Outcome<Change> {
    let found = Fsync::NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(value));
    let names = "argument(s) must be one of the following: everysec, always, no";
    found.map(|&(_, fsync)| Change::Fsync(fsync)).ok_or(Failure::fixed(names))
}

fn get_bind(server: &Server) -> String {
    let addresses = server.addresses();
    addresses.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(" ")
}

fn get_port(server: &Server) -> String {
    server.addresses().first().map_or(0, std::net::SocketAddr::port).to_string()
}

fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.into()
}

fn parse_yes_no(value: &str) -> Outcome<bool> {
    match value {
        _ if value.eq_ignore_ascii_case("yes") => Ok(true),
        _ if value.eq_ignore_ascii_case("no") => Ok(false),
        _ => Err(Failure::fixed("argument must be 'yes' or 'no'")),
    }
}

/// Whether an amount of memory, with a unit or without, is none.
fn is_memory_zero(value: &str) -> Option<bool> {
    let digits = value.trim_end_matches(|unit: char| !unit.is_ascii_digit());
    let unit = value[digits.len()..].to_ascii_lowercase();
    let is_unit = ["", "b", "k", "kb", "m", "mb", "g", "gb"].contains(&unit.as_str());
    digits.parse::<u64>().ok().filter(|_| is_unit).map(|number| number == 0)
}

/// A number between two that are of its type.
fn parse_number<N>(value: &str, least: N, most: N) -> Outcome<N>
where
    N: TryFrom<i64> + PartialOrd + Display,
{
    let number = number::parse_i64(value.as_bytes())
        .ok_or(Failure::fixed("argument couldn't be parsed into an integer"))?;
    let within = N::try_from(number).ok().filter(|number| least <= *number && *number <= most);
    within.ok_or_else(|| {
        Failure::new(format!("argument must be between {least} and {most} inclusive"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_of_memory_has_a_unit_or_none() {
        for (text, is_zero) in [
            ("0", Some(true)),
            ("0mb", Some(true)),
            ("00GB", Some(true)),
            ("7", Some(false)),
            ("100k", Some(false)),
            ("", None),
            ("-0", None),
            ("0 mb", None),
            ("0tb", None),
        ] {
            assert_eq!(is_memory_zero(text), is_zero, "{text}");
        }
    }

    #[test]
    fn the_password_of_a_server_that_others_can_reach_cannot_be_taken_away() {
        let found = PARAMETERS.iter().find(|parameter| parameter.name == "requirepass");
        let parse = found.and_then(|parameter| parameter.parse).expect("it can be set");
        for (address, is_refused) in [("127.0.0.1:0", false), ("[::]:0", true)] {
            let mut config = Config::new("db");
            config.listen = vec![address.parse().expect("an address")];
            config.password = Some("secret".into());
            let settings = Settings::new(&config, 1000);
            let parsed = parse(&settings, "");
            assert_eq!(parsed.is_err(), is_refused, "{address}");
            parsed.into_iter().for_each(|change| settings.apply(change));
            assert_eq!(settings.password.read().is_empty(), !is_refused, "{address}");
            settings.apply(parse(&settings, "another").expect("any other is fine"));
            assert!(settings.is_password(b"another"));
        }
    }

    #[test]
    fn no_more_clients_are_let_in_than_the_system_has_room_for() {
        let settings = Settings::new(&Config::new("db"), 100);
        assert_eq!(settings.clients_max.load(Ordering::Relaxed), 100);
        let found = PARAMETERS.iter().find(|parameter| parameter.name == "maxclients");
        let parse = found.and_then(|parameter| parameter.parse).expect("it can be set");
        for (text, is_taken) in [("1", true), ("100", true), ("101", false), ("0", false)] {
            assert_eq!(parse(&settings, text).is_ok(), is_taken, "{text}");
        }
    }
}
