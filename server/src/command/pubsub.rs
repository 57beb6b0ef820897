//! SUBSCRIBE and its kin, PUBLISH, PUBSUB.
//!
//! Each channel has an answer of its own, as in Redis, which a client gets whatever it has said with
//! CLIENT REPLY. A message is on its way when PUBLISH runs, between MULTI and EXEC too: what the
//! transaction becomes, and when it is durable, is no matter of messages.

use std::sync::Arc;

use super::{Args, Context, Failure, Outcome};
use crate::limits::{SUBSCRIBED_BYTES_MAX, SUBSCRIPTIONS_MAX};
use crate::pubsub::Kind;

pub(super) fn subscribe(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    begin(context, args, Kind::Channel, "subscribe")
}

pub(super) fn psubscribe(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    begin(context, args, Kind::Pattern, "psubscribe")
}

pub(super) fn ssubscribe(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    begin(context, args, Kind::Shard, "ssubscribe")
}

pub(super) fn unsubscribe(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    end(context, args, Kind::Channel, "unsubscribe")
}

pub(super) fn punsubscribe(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    end(context, args, Kind::Pattern, "punsubscribe")
}

pub(super) fn sunsubscribe(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    end(context, args, Kind::Shard, "sunsubscribe")
}

fn begin(context: &mut Context<'_, '_>, args: Args<'_>, kind: Kind, word: &str) -> Outcome {
    let session = &mut *context.session;
    let names = args.from(1);
    let bytes: usize = names.iter().map(<[u8]>::len).sum();
    let own = &session.subscriptions;
    if own.count_all() + names.len() > SUBSCRIPTIONS_MAX || own.bytes + bytes > SUBSCRIBED_BYTES_MAX
    {
        return Err(Failure::fixed("ERR too many subscriptions"));
    }
    for name in names.iter() {
        let session = &mut *context.session;
        let subscriptions = &mut session.subscriptions;
        context.server.pubsub.subscribe(&session.client, subscriptions, kind, name);
        confirm(context, kind, word, Some(name));
    }
    Ok(())
}

fn end(context: &mut Context<'_, '_>, args: Args<'_>, kind: Kind, word: &str) -> Outcome {
    let named = args.from(1);
    let names: Vec<Arc<[u8]>> = match named.len() {
        0 => context.session.subscriptions.names(kind),
        _ => named.iter().map(Arc::from).collect(),
    };
    if names.is_empty() {
        confirm(context, kind, word, None);
    }
    for name in names {
        let session = &mut *context.session;
        let subscriptions = &mut session.subscriptions;
        context.server.pubsub.unsubscribe(&session.client, subscriptions, kind, &name);
        confirm(context, kind, word, Some(&name));
    }
    Ok(())
}

/// Tells one change, and how many subscriptions the connection has then: of channels and patterns, or of
/// the channels of shards.
fn confirm(context: &mut Context<'_, '_>, kind: Kind, word: &str, name: Option<&[u8]>) {
    let session = &mut *context.session;
    session.is_confirming = true;
    session.tell_subscriptions();
    let own = &session.subscriptions;
    let count = match kind {
        Kind::Shard => own.count(Kind::Shard),
        Kind::Channel | Kind::Pattern => own.count(Kind::Channel) + own.count(Kind::Pattern),
    };
    context.reply.push(3);
    context.reply.bulk(word.as_bytes());
    context.reply.bulk_or_null(name);
    context.reply.count(count);
}

pub(super) fn publish(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    send(context, args, Kind::Channel)
}

pub(super) fn spublish(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    send(context, args, Kind::Shard)
}

fn send(context: &mut Context<'_, '_>, args: Args<'_>, kind: Kind) -> Outcome {
    let server = context.server;
    let deliver = |client: &_, push| server.push(client, push);
    let count = server.pubsub.publish(kind, args.at(1), args.at(2), deliver);
    context.reply.count(count);
    Ok(())
}

pub(super) fn channels(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    names(context, args, Kind::Channel)
}

pub(super) fn shardchannels(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    names(context, args, Kind::Shard)
}

fn names(context: &mut Context<'_, '_>, args: Args<'_>, kind: Kind) -> Outcome {
    if args.len() > 3 {
        return Err(Failure::wrong_sub_arity("PUBSUB", args));
    }
    let names = context.server.pubsub.names(kind, args.get(2));
    context.reply.array(names.len());
    for name in names {
        context.check_reply()?;
        context.reply.bulk(&name);
    }
    Ok(())
}

pub(super) fn numsub(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    counts(context, args, Kind::Channel)
}

pub(super) fn shardnumsub(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    counts(context, args, Kind::Shard)
}

fn counts(context: &mut Context<'_, '_>, args: Args<'_>, kind: Kind) -> Outcome {
    let names = args.from(2);
    context.reply.array(names.len() * 2);
    for name in names.iter() {
        context.check_reply()?;
        context.reply.bulk(name);
        context.reply.count(context.server.pubsub.subscribers(kind, name));
    }
    Ok(())
}

pub(super) fn numpat(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    context.reply.count(context.server.pubsub.count(Kind::Pattern));
    Ok(())
}

pub(super) fn help(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    context.reply.help(
        "PUBSUB",
        &[
            "CHANNELS [<pattern>]",
            "    Return the currently active channels matching a <pattern> (default: '*').",
            "NUMPAT",
            "    Return number of subscriptions to patterns.",
            "NUMSUB [<channel> ...]",
            "    Return the number of subscribers for the specified channels, excluding",
            "    pattern subscriptions(default: no channels).",
            "SHARDCHANNELS [<pattern>]",
            "    Return the currently active shard level channels matching a <pattern> (default: '*').",
            "SHARDNUMSUB [<shardchannel> ...]",
            "    Return the number of subscribers for the specified shard level channel(s)",
        ],
    );
    Ok(())
}
