//! CLIENT: connections about themselves and others.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Args, Context, Failure, Outcome, number};
use crate::blocked::Unblock;
use crate::clients::Client;
use crate::session::Replies;

pub(super) fn id(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    context.reply.integer(i64::try_from(context.session.client.id).unwrap_or(i64::MAX));
    Ok(())
}

pub(super) fn info(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    let line = context.session.client.describe() + "\n";
    context.reply.verbatim(&line);
    Ok(())
}

/// A name without blanks, line ends or other bytes that would break the list of clients.
pub(super) fn checked_name(name: &[u8]) -> Outcome<Vec<u8>> {
    if name.iter().any(|byte| !(b'!'..=b'~').contains(byte)) {
        let why = "ERR Client names cannot contain spaces, newlines or special characters.";
        return Err(Failure::fixed(why));
    }
    Ok(name.to_vec())
}

pub(super) fn setname(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    *context.session.client.name.lock() = checked_name(args.at(2))?;
    context.reply.ok();
    Ok(())
}

pub(super) fn getname(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    let name = context.session.client.name.lock().clone();
    context.reply.bulk_or_null(Some(&name[..]).filter(|name| !name.is_empty()));
    Ok(())
}

pub(super) fn setinfo(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let value = String::from_utf8(checked_name(args.at(3))?).map_err(|_| Failure::SYNTAX)?;
    let mut library = context.session.client.library.lock();
    if args.is(2, "lib-name") {
        library.0 = value;
    } else if args.is(2, "lib-ver") {
        library.1 = value;
    } else {
        let option = String::from_utf8_lossy(args.at(2)).into_owned();
        return Err(Failure::new(format!("ERR Unrecognized option '{option}'")));
    }
    drop(library);
    context.reply.ok();
    Ok(())
}

pub(super) fn list(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let all = context.server.clients.all();
    let shown: Vec<Arc<Client>> = match args.len() {
        2 => all,
        4 if args.is(2, "type") => {
            let is_it = of_type(args.at(3))?;
            all.into_iter().filter(|client| is_it(client)).collect()
        }
        length if length > 3 && args.is(2, "id") => {
            let mut ids = Vec::new();
            for argument in args.from(3).iter() {
                ids.push(
                    number::parse_i64(argument)
                        .filter(|&id| id > 0)
                        .ok_or(Failure::fixed("ERR Invalid client ID"))?,
                );
            }
            let has =
                |client: &&Arc<Client>| i64::try_from(client.id).is_ok_and(|id| ids.contains(&id));
            all.iter().filter(has).cloned().collect()
        }
        _ => return Err(Failure::SYNTAX),
    };
    let lines: String = shown.iter().map(|client| client.describe() + "\n").collect();
    context.reply.verbatim(&lines);
    Ok(())
}

/// Which connections are of a type, by its name.
fn of_type(name: &[u8]) -> Outcome<fn(&Client) -> bool> {
    let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
    match () {
        () if is("normal") => Ok(|client| !client.is_subscriber()),
        () if is("pubsub") => Ok(Client::is_subscriber),
        () if is("master") || is("replica") || is("slave") => Ok(|_| false),
        () => {
            let name = String::from_utf8_lossy(name);
            Err(Failure::new(format!("ERR Unknown client type '{name}'")))
        }
    }
}

pub(super) fn kill(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let own = context.session.client.id;
    let all = context.server.clients.all();
    if args.len() == 3 {
        let found = all.iter().find(|client| client.address.to_string().as_bytes() == args.at(2));
        let found = found.ok_or(Failure::fixed("ERR No such client"))?;
        end(context, found);
        context.reply.ok();
        return Ok(());
    }
    let mut skips_self = true;
    let mut chosen: Vec<&Arc<Client>> = all.iter().collect();
    for index in (2..args.len()).step_by(2) {
        let value = args.get(index + 1).ok_or(Failure::SYNTAX)?;
        match () {
            () if args.is(index, "id") => {
                let id = number::parse_i64(value).and_then(|id| u64::try_from(id).ok());
                let id = id
                    .filter(|&id| id > 0)
                    .ok_or(Failure::fixed("ERR client-id should be greater than 0"))?;
                chosen.retain(|client| client.id == id);
            }
            () if args.is(index, "addr") => {
                chosen.retain(|client| client.address.to_string().as_bytes() == value);
            }
            () if args.is(index, "laddr") => {
                chosen.retain(|client| client.local.to_string().as_bytes() == value);
            }
            () if args.is(index, "type") => {
                let is_it = of_type(value)?;
                chosen.retain(|client| is_it(client));
            }
            () if args.is(index, "user") => {
                if value != b"default" {
                    let user = String::from_utf8_lossy(value);
                    return Err(Failure::new(format!("ERR No such user '{user}'")));
                }
            }
            () if args.is(index, "skipme") => match () {
                () if args.is(index + 1, "yes") => skips_self = true,
                () if args.is(index + 1, "no") => skips_self = false,
                () => return Err(Failure::SYNTAX),
            },
            () => return Err(Failure::SYNTAX),
        }
    }
    chosen.retain(|client| !(skips_self && client.id == own));
    for client in &chosen {
        end(context, client);
    }
    context.reply.count(chosen.len());
    Ok(())
}

/// Ends a connection; one's own, behind the reply.
fn end(context: &mut Context<'_, '_>, client: &Client) {
    if client.id == context.session.client.id {
        context.session.is_quitting = true;
    } else {
        client.kill();
    }
}

pub(super) fn reply(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    context.session.replies = match () {
        () if args.is(2, "on") => Replies::On,
        () if args.is(2, "off") => Replies::Off,
        // In OFF mode there is nothing to skip.
        () if args.is(2, "skip") && context.session.replies == Replies::Off => Replies::Off,
        () if args.is(2, "skip") => Replies::SkipNext,
        () => return Err(Failure::SYNTAX),
    };
    context.reply.ok();
    Ok(())
}

/// Nothing is evicted.
pub(super) fn no_evict(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    if !args.is(2, "on") && !args.is(2, "off") {
        return Err(Failure::SYNTAX);
    }
    context.reply.ok();
    Ok(())
}

/// Lets a client go that waits: as if its time were over, or with an error.
pub(super) fn unblock(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let how = match args.len() {
        3 => Unblock::Timeout,
        4 if args.is(3, "timeout") => Unblock::Timeout,
        4 if args.is(3, "error") => Unblock::Error,
        4 => {
            let why = "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR";
            return Err(Failure::fixed(why));
        }
        _ => return Err(Failure::wrong_sub_arity("CLIENT", args)),
    };
    let id = super::integer(args.at(2))?;
    let all = context.server.clients.all();
    let found = all.iter().find(|client| i64::try_from(client.id) == Ok(id));
    context.reply.truth(found.is_some_and(|client| client.blocked.unblock(how)));
    Ok(())
}

pub(super) fn getredir(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    context.session.client.watched.load(Ordering::Relaxed);
    context.reply.integer(-1);
    Ok(())
}
