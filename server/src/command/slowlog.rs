//! SLOWLOG.

use super::{Args, Context, Failure, Outcome, number};

/// Entries that SLOWLOG GET tells unless it is asked for more.
const ENTRIES_DEFAULT: usize = 10;

pub(super) fn get(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let asked = match args.len() {
        2 => ENTRIES_DEFAULT,
        3 => asked(args.at(2))?,
        _ => return Err(Failure::wrong_sub_arity("SLOWLOG", args)),
    };
    let most = context.server.settings.slowlog_entries_max();
    let entries = context.server.slowlog.newest(asked.min(most));
    context.reply.array(entries.len());
    for entry in entries {
        context.check_reply()?;
        let reply = &mut *context.reply;
        reply.array(6);
        for number in [entry.id, entry.time_s, entry.took_us] {
            reply.integer(i64::try_from(number).unwrap_or(i64::MAX));
        }
        reply.array(entry.arguments.len());
        entry.arguments.iter().for_each(|argument| reply.bulk(argument));
        reply.bulk(entry.address.as_bytes());
        reply.bulk(&entry.client_name);
    }
    Ok(())
}

/// How many entries; -1 is all.
fn asked(argument: &[u8]) -> Outcome<usize> {
    let why = "ERR count should be greater than or equal to -1";
    match number::parse_i64(argument) {
        Some(-1) => Ok(usize::MAX),
        count => count.and_then(|count| usize::try_from(count).ok()).ok_or(Failure::fixed(why)),
    }
}

pub(super) fn len(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    let most = context.server.settings.slowlog_entries_max();
    context.reply.count(context.server.slowlog.len(most));
    Ok(())
}

pub(super) fn reset(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    context.server.slowlog.reset();
    context.reply.ok();
    Ok(())
}

pub(super) fn help(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    context.reply.help(
        "SLOWLOG",
        &[
            "GET [<count>]",
            "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
            "    Entries are made of:",
            "    id, timestamp, time in microseconds, arguments array, client IP and port,",
            "    client name",
            "LEN",
            "    Return the length of the slowlog.",
            "RESET",
            "    Reset the slowlog.",
        ],
    );
    Ok(())
}
