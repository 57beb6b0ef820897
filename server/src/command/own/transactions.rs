//! SW.BEGIN, SW.COMMIT, SW.ROLLBACK: a transaction that the client holds open from command to command.
//!
//! ```text
//!            begin            commit, rollback, RESET
//!   none ------------> open ---------------------------> none
//!                        | Begun::expire: its time is over
//!                        | Begun::doom: another connection has dropped what it reads
//!                        v            commit (fails), rollback, RESET
//!                      ended --------------------------> none
//! ```
//!
//! While it is ended every command is told why, so that nothing that belongs to it happens outside.

use std::sync::Arc;
use std::time::Duration;

use super::{Args, Context, Failure, Outcome, integer};
use crate::begun::{Begun, What};
use crate::keyspace::{Open, View};
use crate::limits::{BEGUN_MS_DEFAULT, BEGUN_MS_MAX};

/// What a transaction is asked for.
#[derive(Clone, Copy, Debug)]
struct Options {
    only_reads: bool,
    timeout: Duration,
}

impl Options {
    fn parse(args: Args<'_>) -> Outcome<Self> {
        let mut options =
            Self { only_reads: false, timeout: Duration::from_millis(BEGUN_MS_DEFAULT) };
        let mut index = 0;
        while index < args.len() {
            if args.is(index, "readonly") {
                options.only_reads = true;
            } else if let (true, Some(timeout)) = (args.is(index, "timeout"), args.get(index + 1)) {
                let ms = u64::try_from(integer(timeout)?).unwrap_or(0);
                if !(1..=BEGUN_MS_MAX).contains(&ms) {
                    let why =
                        format!("ERR TIMEOUT must be between 1 and {BEGUN_MS_MAX} milliseconds");
                    return Err(Failure::new(why));
                }
                options.timeout = Duration::from_millis(ms);
                index += 1;
            } else {
                return Err(Failure::SYNTAX);
            }
            index += 1;
        }
        Ok(options)
    }
}

pub(super) fn begin(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let options = Options::parse(args.from(1))?;
    if context.session.view.is_some() {
        return Err(Failure::fixed("ERR SW.BEGIN while reading a snapshot is not allowed"));
    }
    if !context.session.watches.is_empty() {
        return Err(Failure::fixed("ERR SW.BEGIN while keys are watched is not allowed"));
    }
    let now_ms = context.now_ms();
    let unit = context.unit()?;
    let what = if options.only_reads {
        let view = View::new(unit.keyspace(), now_ms)?;
        unit.rest_on_all();
        What::Reads(Arc::new(view))
    } else {
        What::Writes(Some(Box::new(Open::begin(unit.keyspace(), now_ms)?)))
    };
    context.session.begun = Some(Begun::new(what, options.timeout));
    context.reply.ok();
    Ok(())
}

fn end(context: &mut Context<'_, '_>, name: &str) -> Outcome<What> {
    let begun = context.session.begun.take();
    Ok(begun.ok_or_else(|| Failure::new(format!("ERR {name} without SW.BEGIN")))?.what)
}

/// The reply is a position of the log: that of the commit, or what was seen with READONLY.
pub(super) fn commit(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    let lsn = match end(context, "SW.COMMIT")? {
        What::Ended(why) => return Err(why),
        What::Reads(view) => view.lsn(),
        What::Writes(_) => context.unit()?.commit_open()?,
    };
    context.reply.integer(i64::try_from(lsn.get()).unwrap_or(i64::MAX));
    Ok(())
}

pub(super) fn rollback(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    end(context, "SW.ROLLBACK")?;
    context.reply.ok();
    Ok(())
}
