//! One command, from its arguments to its reply.
//!
//! 1. The command is looked up, its arity checked; before AUTH most are refused, while the database is
//!    opened most are `LOADING`.
//! 2. Between MULTI and EXEC it is queued; what is wrong with it dooms the EXEC.
//! 3. Its locks are taken, its handler runs, its writes are logged, the locks go. Those of a command that
//!    looks at a whole database go before, as soon as it has a moment of it to look at.
//!    It is counted then, shown to who monitors, and noted where it took long.
//! 4. What others have pushed to a subscriber by then is written before its reply.
//! 5. What the reply rests on is returned; the connection holds its replies back until that is durable.
//!
//! An error in 3 leaves none of the command's writes.

use std::sync::Arc;
use std::time::Instant;

use seawall::{Durability, Lsn};

use crate::begun::What;
use crate::command::{self, Command, Context, flag};
use crate::failure::{Failure, Outcome};
use crate::job::Tell;
use crate::keyspace::{Held, Hold, Keyspace, Moment, Unit, View};
use crate::resp::{Args, Protocol, Reply};
use crate::server::Server;
use crate::session::{Replies, Session};

/// What a client of RESP2 may say while it is subscribed.
const WHILE_SUBSCRIBED: [&str; 9] = [
    "ping",
    "psubscribe",
    "punsubscribe",
    "quit",
    "reset",
    "ssubscribe",
    "subscribe",
    "sunsubscribe",
    "unsubscribe",
];

/// Does a command and writes its reply. Returns the position to which the log has to be durable before
/// the reply may leave.
pub(crate) fn execute(
    server: &Server,
    session: &mut Session,
    args: Args<'_>,
    reply: &mut Reply,
) -> Lsn {
    let (mark, protocol) = (reply.bytes.len(), reply.protocol);
    let subscriptions = session.subscriptions.count_all();
    session.is_confirming = false;
    server.stats.commands.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let mut rests_on = Lsn::default();
    if let Err(failure) = admit_and_run(server, session, args, reply, &mut rests_on) {
        reply.bytes.truncate(mark);
        reply.error(&failure.text());
        server.stats.errors.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
    if let Some(job) = &mut session.job {
        job.is_heard = session.replies == Replies::On;
    }
    if session.replies != Replies::On && !session.is_confirming {
        reply.bytes.truncate(mark);
    }
    session.replies = match session.replies {
        Replies::SkipNext => Replies::Skip,
        Replies::Skip => Replies::On,
        stays => stays,
    };
    if subscriptions > 0 && session.subscriptions.count_all() <= subscriptions {
        insert_pushes(session, reply, mark, protocol);
    } else if session.is_monitor {
        session.take_pushes(reply);
    }
    rests_on
}

/// Writes what was pushed before the reply that begins at `mark`, in the protocol that was spoken then: no
/// message comes behind the end of its subscription, and what a client publishes to itself comes before
/// the answer to that. Where a subscription has begun, its messages wait for the end of the turn.
fn insert_pushes(session: &mut Session, reply: &mut Reply, mark: usize, protocol: Protocol) {
    let own = reply.bytes.split_off(mark);
    let spoken = std::mem::replace(&mut reply.protocol, protocol);
    session.take_pushes(reply);
    reply.protocol = spoken;
    reply.bytes.extend_from_slice(&own);
}

/// Writes the reply of what a command has left to be waited for.
pub(crate) fn answer(server: &Server, ended: Outcome<Tell>, reply: &mut Reply) {
    match ended {
        Ok(tell) => tell(reply),
        Err(failure) => {
            reply.error(&failure.text());
            server.stats.errors.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

fn admit_and_run(
    server: &Server,
    session: &mut Session,
    args: Args<'_>,
    reply: &mut Reply,
    rests_on: &mut Lsn,
) -> Outcome {
    let command = match admit(server, session, args) {
        Ok(command) => command,
        Err(failure) if args.is(0, "exec") => {
            session.discard(server.keyspace().map(|keyspace| &**keyspace));
            let text = failure.text();
            let why = text.strip_prefix("ERR ").unwrap_or(&text);
            let why = format!("EXECABORT Transaction discarded because of: {why}");
            return Err(Failure::new(why));
        }
        Err(failure) => {
            if let Some(queue) = &mut session.queue {
                queue.is_doomed = true;
            }
            return Err(failure);
        }
    };
    *session.client.last_command.lock() = command.name;
    if session.queue.is_some() && !command.has(flag::NOT_QUEUED) {
        return queue(session, command, args, reply);
    }
    let begun = Instant::now();
    let before = (session.database, reply.protocol);
    let done = run(server, session, command, args, reply, rests_on);
    if done.is_err() {
        // Of an EXEC that is undone SELECT and HELLO too have not happened.
        session.select(before.0);
        reply.protocol = before.1;
        session.client.speaks(before.1);
    }
    server.executed(session, command, args, begun.elapsed(), done.is_err());
    done
}

/// Runs a command and logs what it writes.
fn run(
    server: &Server,
    session: &mut Session,
    command: &Command,
    args: Args<'_>,
    reply: &mut Reply,
    rests_on: &mut Lsn,
) -> Outcome {
    let Some(keyspace) = server.keyspace() else {
        return (command.run)(&mut Context { server, session, unit: None, reply }, args);
    };
    let mut held = hold(keyspace, command, args);
    let mut moment = moment(session);
    let mut seen = Lsn::default();
    if command.is_walk() && matches!(moment, Moment::Present) {
        // However long it takes, nobody waits for it: EXEC needs the gate, and behind that everybody.
        moment = Moment::View(Arc::new(View::new(keyspace, crate::clock::now_ms())?));
        seen = keyspace.engine.logged_lsn();
        held = Held::Nothing;
    }
    let mut unit = Unit::at(keyspace, moment, is_sync(server, session));
    let done = (command.run)(&mut Context { server, session, unit: Some(&mut unit), reply }, args);
    let committed = done.and_then(|()| unit.commit().map(drop));
    let committed = give_back(session, &mut unit, committed);
    drop(held);
    *rests_on = unit.rests_on().max(seen);
    session.last_commit = session.last_commit.max(unit.committed().unwrap_or_default());
    committed
}

/// What the connection's next command looks at.
fn moment(session: &mut Session) -> Moment {
    match session.begun.as_mut().map(|begun| &mut begun.what) {
        Some(What::Writes(open)) => open.take().map_or(Moment::Present, Moment::Open),
        Some(What::Reads(view)) => Moment::View(Arc::clone(view)),
        Some(What::Ended(_)) => Moment::Present,
        None => session.view.clone().map_or(Moment::Present, Moment::View),
    }
}

/// Puts the open transaction back, if there still is one; without a place for it, it rolls back.
fn give_back(session: &mut Session, unit: &mut Unit<'_>, done: Outcome) -> Outcome {
    let Some(open) = unit.take_open(done.is_ok()) else { return done };
    let Some(begun) = &mut session.begun else { return done };
    begun.what = What::Writes(Some(open));
    done.map_err(|failure| begun.doom(failure))
}

/// Whether replies to the connection's writes wait for the flush.
fn is_sync(server: &Server, session: &Session) -> bool {
    let asked = session.durability.map(|durability| durability == Durability::Sync);
    asked.unwrap_or_else(|| server.settings.is_sync())
}

fn admit(server: &Server, session: &mut Session, args: Args<'_>) -> Outcome<&'static Command> {
    let command = command::find(args)?;
    admit_command(server, session, command, args)
        .inspect_err(|_| server.calls.rejected(command))?;
    Ok(command)
}

fn admit_command(
    server: &Server,
    session: &mut Session,
    command: &Command,
    args: Args<'_>,
) -> Outcome {
    if !command.is_arity(args.len()) {
        return Err(Failure::wrong_arity(command.name));
    }
    if !session.is_authenticated && !command.has(flag::NO_AUTH) {
        return Err(Failure::fixed("NOAUTH Authentication required."));
    }
    if session.is_restricted() && !WHILE_SUBSCRIBED.contains(&command.name) {
        let name = command.name;
        return Err(Failure::new(format!(
            "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
        )));
    }
    if session.is_monitor && is_of_keys(command) {
        return Err(Failure::fixed("ERR Replica can't interact with the keyspace"));
    }
    if server.keyspace().is_none() && !command.has(flag::LOADING) {
        return Err(server.loading());
    }
    if session.queue.is_some() && command.has(flag::NO_MULTI) {
        return Err(Failure::fixed("ERR Command not allowed inside a transaction"));
    }
    if let Some(begun) = &mut session.begun {
        begun.admit(command)?;
    }
    if session.view.is_some() && command.has(flag::WRITE) {
        return Err(Failure::READS_SNAPSHOT);
    }
    Ok(())
}

/// Whether a command is refused to a connection that has said MONITOR, which Redis takes for a replica.
fn is_of_keys(command: &Command) -> bool {
    let is_publish = ["publish", "spublish"].contains(&command.name);
    command.has(flag::WRITE) || command.has(flag::READONLY) || is_publish
}

fn queue(
    session: &mut Session,
    command: &'static Command,
    args: Args<'_>,
    reply: &mut Reply,
) -> Outcome {
    use crate::limits::{QUEUED_BYTES_MAX, QUEUED_COMMANDS_MAX};
    let Some(queue) = &mut session.queue else { return Ok(()) };
    let request = crate::resp::OwnedRequest::new(args);
    let bytes = queue.bytes + request.held_bytes();
    if queue.commands.len() == QUEUED_COMMANDS_MAX || bytes > QUEUED_BYTES_MAX {
        queue.is_doomed = true;
        return Err(Failure::fixed("ERR the transaction has too many commands"));
    }
    queue.bytes = bytes;
    queue.commands.push((command, request));
    let count = i64::try_from(queue.commands.len()).unwrap_or(i64::MAX);
    session.client.queued.store(count, std::sync::atomic::Ordering::Relaxed);
    reply.simple("QUEUED");
    Ok(())
}

fn hold<'l>(keyspace: &'l Keyspace, command: &Command, args: Args<'_>) -> Held<'l> {
    match command.hold() {
        hold @ Hold::Keys { .. } => {
            let positions = command.key_positions(args.len());
            keyspace.locks.hold(hold, positions.map(|index| args.at(index)))
        }
        hold => keyspace.locks.hold(hold, std::iter::empty()),
    }
}
