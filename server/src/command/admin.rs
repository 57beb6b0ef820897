//! The server as a whole: TIME, SHUTDOWN, and persistence.

use std::sync::atomic::Ordering;

use super::{Args, Context, Failure, Outcome};

pub(super) fn time(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    let now_us = crate::clock::now_us();
    context.reply.array(2);
    context.reply.bulk((now_us / 1_000_000).to_string().as_bytes());
    context.reply.bulk((now_us % 1_000_000).to_string().as_bytes());
    Ok(())
}

/// Ends the server as a signal does. The client sees its connection close, and nothing else.
pub(super) fn shutdown(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    for index in 1..args.len() {
        match () {
            () if args.is(index, "nosave") => {
                context.server.is_hasty.store(true, Ordering::SeqCst);
            }
            () if ["save", "now", "force"].iter().any(|word| args.is(index, word)) => {}
            () if args.is(index, "abort") => {
                return Err(Failure::fixed("ERR No shutdown in progress."));
            }
            () => return Err(Failure::SYNTAX),
        }
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
