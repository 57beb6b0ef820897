//! MONITOR.

use super::{Args, Context, Failure, Outcome};

/// From now on the connection is shown every command. Saying it twice has no second answer.
pub(super) fn monitor(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    let session = &mut *context.session;
    if session.is_executing {
        return Err(Failure::fixed("ERR MONITOR isn't allowed for DENY BLOCKING client"));
    }
    if !session.is_monitor {
        session.is_monitor = true;
        session.client.watches(true);
        context.server.monitors.enter(&session.client);
        context.reply.ok();
    }
    Ok(())
}
