//! SW.SNAPSHOT and SW.RELEASE: one moment of all databases, for this connection.
//!
//! Everything that is seen in it has to be durable before it is told, so the reply to SW.SNAPSHOT waits
//! for the flush, and no read after it does. RESET and the connection's end release it too.

use std::sync::Arc;

use super::{Args, Context, Failure, Outcome};
use crate::keyspace::View;

/// The reply is the position of the log that is seen from now on.
pub(super) fn snapshot(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    if context.session.view.is_some() {
        return Err(Failure::fixed("ERR SW.SNAPSHOT calls can not be nested: SW.RELEASE first"));
    }
    if !context.session.watches.is_empty() {
        return Err(Failure::fixed("ERR SW.SNAPSHOT while keys are watched is not allowed"));
    }
    let now_ms = context.now_ms();
    let unit = context.unit()?;
    let view = View::new(unit.keyspace(), now_ms)?;
    unit.rest_on_all();
    context.reply.integer(i64::try_from(view.lsn().get()).unwrap_or(i64::MAX));
    context.session.view = Some(Arc::new(view));
    Ok(())
}

pub(super) fn release(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    if context.session.view.take().is_none() {
        return Err(Failure::fixed("ERR SW.RELEASE without SW.SNAPSHOT"));
    }
    context.reply.ok();
    Ok(())
}
