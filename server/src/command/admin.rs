//! The server as a whole: TIME, SHUTDOWN, and persistence.

use super::{Args, Context, Failure, Outcome};
use crate::job::Job;

pub(super) fn time(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    let now_us = crate::clock::now_us();
    context.reply.array(2);
    context.reply.bulk((now_us / 1_000_000).to_string().as_bytes());
    context.reply.bulk((now_us % 1_000_000).to_string().as_bytes());
    Ok(())
}

/// Ends the server as a signal does, whichever way is asked for: what was acknowledged is durable, and
/// a clean end costs no more than what a recovery would. The client sees its connection close, and
/// nothing else.
pub(super) fn shutdown(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let words = ["save", "nosave", "now", "force", "abort"];
    let mut given = [false; 5];
    for index in 1..args.len() {
        let known = words.iter().position(|word| args.is(index, word));
        given[known.ok_or(Failure::SYNTAX)?] = true;
    }
    match given {
        [true, true, ..] => return Err(Failure::SYNTAX),
        [false, false, false, false, true] => {
            return Err(Failure::fixed("ERR No shutdown in progress."));
        }
        [.., true] => return Err(Failure::SYNTAX),
        _ => {}
    }
    context.session.is_quitting = true;
    context.server.stop();
    Ok(())
}

pub(super) fn role(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    context.reply.array(3);
    context.reply.bulk(b"master");
    context.reply.integer(0);
    context.reply.array(0);
    Ok(())
}

/// There are no functions to flush; clients' test suites call it between tests.
pub(super) fn function_flush(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    context.reply.ok();
    Ok(())
}

/// A checkpoint, before the reply; others of the same thread are served meanwhile.
pub(super) fn save(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    let save = context.server.keyspace().ok_or(Failure::LOADING)?.claim_save()?;
    context.session.job = Some(Job::start("save", save, |reply, _| reply.ok())?);
    Ok(())
}

fn save_in_background(context: &Context<'_, '_>) -> Outcome {
    context.server.keyspace().ok_or(Failure::LOADING)?.save_in_background()
}

pub(super) fn bgsave(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    match args.len() {
        1 => {}
        2 if args.is(1, "schedule") => {}
        _ => return Err(Failure::SYNTAX),
    }
    save_in_background(context)?;
    context.reply.simple("Background saving started");
    Ok(())
}

/// What rewriting is for, a log that is short again, a checkpoint does.
pub(super) fn bgrewriteaof(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    save_in_background(context)?;
    context.reply.simple("Background append only file rewriting started");
    Ok(())
}

pub(super) fn lastsave(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    let last_s = context.unit()?.keyspace().saves.last_s();
    context.reply.integer(i64::try_from(last_s).unwrap_or(i64::MAX));
    Ok(())
}
