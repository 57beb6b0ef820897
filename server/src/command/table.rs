//! The table of commands: its rows stand in a file for each part.

use super::{Args, Command, Failure, Handler, Keys, Outcome, introspect, own, refusal};

pub(super) type Row = (&'static str, i32, u32, [i32; 3], &'static str, &'static str, Handler);

pub(super) const fn command(group: &'static str, row: &Row) -> Command {
    let &(name, arity, flags, [first, last, step], since, summary, run) = row;
    let keys = Keys(first, last, step);
    Command { name, arity, flags, keys, group, since, summary, run, subcommands: &[] }
}

/// Rows of one group, as a constant array of commands.
macro_rules! group {
    ($constant:ident, $group:literal, [$($row:expr),* $(,)?]) => {
        pub(super) const $constant: &[$crate::command::Command] = &[$(command($group, &$row)),*];
    };
}

pub(super) const NONE: [i32; 3] = [0, 0, 0];
pub(super) const ONE: [i32; 3] = [1, 1, 1];
const ALL: [i32; 3] = [1, -1, 1];

mod connection;
mod keys;
mod observe;
mod pubsub;
mod server;
mod strings;

use connection::{CLIENT, CONNECTION, WAITS};
use keys::{KEYS, OBJECT, TRANSACTIONS};
use observe::{LATENCY, OBSERVE, SLOWLOG};
use pubsub::{PUBSUB, SUBSCRIPTIONS};
use server::{COMMAND, CONFIG, FUNCTION, MEMORY, SERVER};
use strings::{BITS, STRINGS};

/// A command that has subcommands.
const fn container(
    name: &'static str,
    group: &'static str,
    arity: i32,
    summary: &'static str,
    subcommands: &'static [Command],
) -> Command {
    let run: Handler = introspect::all;
    let keys = Keys(0, 0, 0);
    Command { name, arity, flags: 0, keys, group, since: "2.4.0", summary, run, subcommands }
}

const CONTAINERS: &[Command] = &[
    container("client", "connection", -2, "Commands about connections", CLIENT),
    container("command", "server", -1, "Tell about all commands", COMMAND),
    container("config", "server", -2, "Commands about parameters", CONFIG),
    container("function", "scripting", -2, "Commands about functions", FUNCTION),
    container("latency", "server", -2, "Commands about latencies", LATENCY),
    container("memory", "server", -2, "Commands about memory", MEMORY),
    container("object", "generic", -2, "Commands about values", OBJECT),
    container("pubsub", "pubsub", -2, "Commands about subscriptions", SUBSCRIPTIONS),
    container("slowlog", "server", -2, "Commands about slow commands", SLOWLOG),
];

const GROUPS: [&[Command]; 11] = [
    STRINGS,
    BITS,
    KEYS,
    TRANSACTIONS,
    CONNECTION,
    WAITS,
    PUBSUB,
    SERVER,
    OBSERVE,
    CONTAINERS,
    own::COMMANDS,
];

/// Every command, once.
pub(crate) static COMMANDS: std::sync::LazyLock<Vec<&'static Command>> =
    std::sync::LazyLock::new(|| GROUPS.iter().flat_map(|group| group.iter()).collect());

/// Commands by name.
static BY_NAME: std::sync::LazyLock<std::collections::HashMap<&'static str, &'static Command>> =
    std::sync::LazyLock::new(|| COMMANDS.iter().map(|command| (command.name, *command)).collect());

/// Longest name of a command.
const NAME_BYTES_MAX: usize = 24;
/// Bytes of the arguments that an error repeats.
const REPEATED_BYTES_MAX: usize = 128;

/// The command, or subcommand, that the arguments name.
pub(crate) fn find(args: Args<'_>) -> Outcome<&'static Command> {
    let name = args.get(0).unwrap_or_default();
    let mut lower = [0; NAME_BYTES_MAX];
    let command = lower.get_mut(..name.len()).and_then(|lower| {
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        BY_NAME.get(std::str::from_utf8(lower).ok()?)
    });
    let Some(&command) = command else { return Err(unknown(args)) };
    if command.subcommands.is_empty() || args.len() == 1 {
        return Ok(command);
    }
    let sub = args.at(1);
    let is_it = |of: &&Command| {
        of.name
            .as_bytes()
            .get(command.name.len() + 1..)
            .is_some_and(|of| of.eq_ignore_ascii_case(sub))
    };
    command.subcommands.iter().find(is_it).ok_or_else(|| {
        let sub: String = String::from_utf8_lossy(sub).chars().take(REPEATED_BYTES_MAX).collect();
        let container = command.name.to_uppercase();
        Failure::new(format!("ERR unknown subcommand '{sub}'. Try {container} HELP."))
    })
}

fn unknown(args: Args<'_>) -> Failure {
    if let Some(refused) = refusal(args) {
        return refused;
    }
    let text = |argument: &[u8], most: usize| {
        String::from_utf8_lossy(&argument[..argument.len().min(most)]).into_owned()
    };
    let name = text(args.at(0), REPEATED_BYTES_MAX);
    let mut shown = String::new();
    for argument in args.from(1).iter() {
        if shown.len() >= REPEATED_BYTES_MAX {
            break;
        }
        let left = REPEATED_BYTES_MAX - shown.len();
        shown += &format!("'{}' ", text(argument, left));
    }
    Failure::new(format!("ERR unknown command '{name}', with args beginning with: {shown}"))
}

#[cfg(test)]
mod tests {
    use super::super::flag::{EXCLUSIVE, WRITE};
    use super::*;

    #[test]
    fn names_are_unique_lower_case_and_short_enough_to_be_found() {
        for command in COMMANDS.iter() {
            assert!(std::ptr::eq(BY_NAME[command.name], *command), "{}", command.name);
            assert_eq!(command.name, command.name.to_lowercase());
            assert!(command.name.len() <= NAME_BYTES_MAX);
        }
    }

    #[test]
    fn who_writes_keys_locks_them() {
        for command in COMMANDS.iter().filter(|command| command.has(WRITE)) {
            assert!(command.keys.0 != 0 || command.has(EXCLUSIVE), "{}", command.name);
        }
    }
}
