//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.
//!
//! EXEC holds every lock and runs its commands in one unit, so it is serial with all others, and is one
//! transaction of the engine: a crash leaves all of it or nothing. As in Redis a command that fails does
//! not keep the others from happening, unless `exec-rollback` is set. An error of the engine undoes all,
//! and so does a reply that is too long: the dispatcher commits nothing behind a failure.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{Args, Context, Failure, Outcome};
use crate::keyspace::Watch;
use crate::limits::WATCHED_KEYS_MAX;
use crate::session::Queue;

pub(super) fn multi(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    if context.session.queue.is_some() {
        return Err(Failure::fixed("ERR MULTI calls can not be nested"));
    }
    context.session.queue = Some(Queue::default());
    context.session.client.queued.store(0, Ordering::Relaxed);
    context.reply.ok();
    Ok(())
}

pub(super) fn discard(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    if context.session.queue.is_none() {
        return Err(Failure::fixed("ERR DISCARD without MULTI"));
    }
    let keyspace = context.unit()?.keyspace();
    context.session.discard(Some(keyspace));
    context.reply.ok();
    Ok(())
}

pub(super) fn watch(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    if context.session.queue.is_some() {
        return Err(Failure::fixed("ERR WATCH inside MULTI is not allowed"));
    }
    if context.session.view.is_some() {
        // What it would watch is not what the connection sees.
        return Err(Failure::fixed("ERR WATCH while reading a snapshot is not allowed"));
    }
    let database = context.session.database;
    let watches = &context.session.watches;
    let is_ours = |watch: &&Watch| watch.key.0 == database;
    let watched: HashSet<&[u8]> =
        watches.iter().filter(is_ours).map(|watch| &watch.key.1[..]).collect();
    let keys = args.from(1).iter().filter(|key| !watched.contains(key));
    let keys: HashSet<&[u8]> = keys.collect();
    if watches.len() + keys.len() > WATCHED_KEYS_MAX {
        return Err(Failure::fixed("ERR too many keys are watched"));
    }
    for key in keys {
        let watched_key = (database, key.to_vec());
        let unit = context.unit()?;
        let expires_ms = unit.read(database, key, |row| row.expires_ms)?.flatten();
        let watch = unit.keyspace().watches.watch(watched_key, expires_ms);
        context.session.watches.push(watch);
    }
    context.session.client.watched.store(context.session.watches.len(), Ordering::Relaxed);
    context.reply.ok();
    Ok(())
}

pub(super) fn unwatch(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    let keyspace = context.unit()?.keyspace();
    context.session.unwatch(Some(keyspace));
    context.reply.ok();
    Ok(())
}

pub(super) fn exec(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    let Some(queue) = context.session.queue.take() else {
        return Err(Failure::fixed("ERR EXEC without MULTI"));
    };
    let keyspace = context.unit()?.keyspace();
    let now_ms = context.now_ms();
    let is_unchanged =
        context.session.watches.iter().all(|watch| keyspace.watches.holds(watch, now_ms));
    context.session.discard(Some(keyspace));
    if queue.is_doomed {
        let why = "EXECABORT Transaction discarded because of previous errors.";
        return Err(Failure::fixed(why));
    }
    if !is_unchanged {
        // The answer rests on the commit that has changed them.
        context.unit()?.rest_on_all();
        context.reply.null_array();
        return Ok(());
    }
    context.session.is_executing = true;
    let done = run_queued(context, &queue);
    context.session.is_executing = false;
    done
}

fn run_queued(context: &mut Context<'_, '_>, queue: &Queue) -> Outcome {
    let rolls_back = context.server.settings.exec_rollback.load(Ordering::Relaxed);
    context.reply.array(queue.commands.len());
    for (command, request) in &queue.commands {
        context.check_reply()?;
        let mark = context.reply.bytes.len();
        let begun = Instant::now();
        let done = (command.run)(context, request.args());
        let (took, args) = (begun.elapsed(), request.args());
        context.server.executed(context.session, command, args, took, done.is_err());
        match done {
            Ok(()) => {}
            Err(failure @ Failure::Engine(_)) => return Err(failure),
            Err(failure) if rolls_back => {
                let why = format!("EXECABORT Transaction rolled back: {}", failure.text());
                return Err(Failure::new(why));
            }
            Err(failure) => {
                context.reply.bytes.truncate(mark);
                context.reply.error(&failure.text());
            }
        }
    }
    Ok(())
}
