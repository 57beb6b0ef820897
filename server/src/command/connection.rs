//! The connection itself: PING, HELLO, AUTH, SELECT and the like.

use super::{Args, Context, Failure, Outcome, keys, number};
use crate::resp::Protocol;
use crate::session::Replies;

/// What clients are told that the server is, so that they use what 7.0 has.
pub(super) const REDIS_VERSION: &str = "7.0.15";

pub(super) fn ping(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    match args.len() {
        1 | 2 if context.session.is_restricted() => {
            context.reply.array(2);
            context.reply.bulk(b"pong");
            context.reply.bulk(args.get(1).unwrap_or_default());
        }
        1 => context.reply.simple("PONG"),
        2 => context.reply.bulk(args.at(1)),
        _ => return Err(Failure::wrong_arity("ping")),
    }
    Ok(())
}

pub(super) fn echo(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    context.reply.bulk(args.at(1));
    Ok(())
}

pub(super) fn quit(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    context.session.is_quitting = true;
    context.reply.ok();
    Ok(())
}

pub(super) fn select(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let database = keys::database(args.at(1))?;
    context.session.select(database);
    context.reply.ok();
    Ok(())
}

pub(super) fn reset(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    let keyspace = context.unit.as_ref().map(|unit| unit.keyspace());
    context.session.discard(keyspace);
    context.session.select(0);
    context.session.replies = Replies::On;
    context.session.durability = None;
    context.session.view = None;
    context.session.begun = None;
    context.server.leave(context.session);
    context.session.is_authenticated = !context.server.settings.asks_password();
    context.session.client.name.lock().clear();
    speak(context, Protocol::Resp2);
    context.reply.simple("RESET");
    Ok(())
}

fn speak(context: &mut Context<'_, '_>, protocol: Protocol) {
    context.reply.protocol = protocol;
    context.session.client.speaks(protocol);
}

fn authenticate(context: &mut Context<'_, '_>, user: &[u8], password: &[u8]) -> Outcome {
    let is_asked = context.server.settings.asks_password();
    let is_right = !is_asked || context.server.settings.is_password(password);
    if user != b"default" || !is_right {
        return Err(Failure::fixed(
            "WRONGPASS invalid username-password pair or user is disabled.",
        ));
    }
    context.session.is_authenticated = true;
    Ok(())
}

pub(super) fn auth(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    match args.len() {
        2 if !context.server.settings.asks_password() => {
            return Err(Failure::fixed(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
            ));
        }
        2 => authenticate(context, b"default", args.at(1))?,
        3 => authenticate(context, args.at(1), args.at(2))?,
        _ => return Err(Failure::SYNTAX),
    }
    context.reply.ok();
    Ok(())
}

pub(super) fn hello(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let mut protocol = None;
    if let Some(version) = args.get(1) {
        let invalid = Failure::fixed("ERR Protocol version is not an integer or out of range");
        protocol = Some(match number::parse_i64(version).ok_or(invalid)? {
            2 => Protocol::Resp2,
            3 => Protocol::Resp3,
            _ => return Err(Failure::fixed("NOPROTO unsupported protocol version")),
        });
    }
    let (mut index, mut name) = (2, None);
    while index < args.len() {
        let left = args.len() - index - 1;
        if args.is(index, "auth") && left >= 2 {
            authenticate(context, args.at(index + 1), args.at(index + 2))?;
            index += 3;
        } else if args.is(index, "setname") && left >= 1 {
            name = Some(super::client::checked_name(args.at(index + 1))?);
            index += 2;
        } else {
            let option = String::from_utf8_lossy(args.at(index));
            return Err(Failure::new(format!("ERR Syntax error in HELLO option '{option}'")));
        }
    }
    if !context.session.is_authenticated {
        return Err(Failure::fixed(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        *context.session.client.name.lock() = name;
    }
    if let Some(protocol) = protocol {
        speak(context, protocol);
    }
    let id = i64::try_from(context.session.client.id).unwrap_or(i64::MAX);
    let reply = &mut *context.reply;
    reply.map(7);
    for (field, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        reply.bulk(field.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"proto");
    reply.integer(if reply.protocol == Protocol::Resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.integer(id);
    for (field, value) in [("mode", "standalone"), ("role", "master")] {
        reply.bulk(field.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"modules");
    reply.array(0);
    Ok(())
}
