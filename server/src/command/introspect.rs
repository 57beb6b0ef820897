//! COMMAND: the table, told to clients.

use super::{Args, COMMANDS, Command, Context, Failure, Keys, Outcome, find, flag};
use crate::glob;
use crate::resp::Reply;

pub(super) fn all(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    context.reply.array(COMMANDS.len());
    COMMANDS.iter().for_each(|command| describe(context.reply, command));
    Ok(())
}

pub(super) fn count(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    context.reply.count(COMMANDS.len());
    Ok(())
}

fn named(name: &[u8]) -> Option<&'static Command> {
    let (container, sub) = match name.iter().position(|&byte| byte == b'|') {
        Some(bar) => (&name[..bar], Some(name)),
        None => (name, None),
    };
    let command = COMMANDS.iter().copied().find(|command| is_named(command, container))?;
    match sub {
        None => Some(command),
        Some(full) => command.subcommands.iter().find(|command| is_named(command, full)),
    }
}

fn is_named(command: &Command, name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(command.name.as_bytes())
}

pub(super) fn info(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    if args.len() == 2 {
        return all(context, args);
    }
    context.reply.array(args.len() - 2);
    for name in args.from(2).iter() {
        context.check_reply()?;
        match named(name) {
            Some(command) => describe(context.reply, command),
            None => context.reply.null_array(),
        }
    }
    Ok(())
}

fn flags(command: &Command) -> Vec<&'static str> {
    let bits = flag::NAMES.iter().enumerate();
    bits.filter(|(bit, _)| command.has(1 << bit)).map(|(_, &name)| name).collect()
}

/// Categories as the ACL of Redis has them.
fn categories(command: &Command) -> Vec<String> {
    let mut all = Vec::new();
    let has = |flag| command.has(flag);
    let is_own = command.group == super::own::GROUP;
    if command.keys.0 != 0 && command.group != "generic" || has(flag::WHOLE) || is_own {
        all.push(format!("@{}", command.group));
    }
    for (is_in, name) in [
        (has(flag::WRITE), "@write"),
        (has(flag::READONLY), "@read"),
        (has(flag::ADMIN), "@admin"),
        (has(flag::ADMIN), "@dangerous"),
        (has(flag::PUBSUB), "@pubsub"),
        (has(flag::FAST), "@fast"),
        (!has(flag::FAST), "@slow"),
        (command.group == "connection", "@connection"),
        (command.group == "transactions", "@transaction"),
        (command.group == "generic" && command.keys.0 != 0, "@keyspace"),
    ] {
        if is_in {
            all.push(name.to_owned());
        }
    }
    all
}

fn describe(reply: &mut Reply, command: &Command) {
    let Keys(first, last, step) = command.keys;
    reply.array(10);
    reply.bulk(command.name.as_bytes());
    reply.integer(command.arity.into());
    let flags = flags(command);
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.simple(flag));
    for number in [first, last, step] {
        reply.integer(number.into());
    }
    let categories = categories(command);
    reply.set(categories.len());
    categories.iter().for_each(|category| reply.simple(category));
    // No tips; the keys are said above.
    reply.array(0);
    reply.array(0);
    reply.array(command.subcommands.len());
    command.subcommands.iter().for_each(|subcommand| describe(reply, subcommand));
}

pub(super) fn docs(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let asked: Vec<&Command> = if args.len() == 2 {
        COMMANDS.to_vec()
    } else {
        args.from(2).iter().filter_map(named).collect()
    };
    context.reply.map(asked.len());
    for command in asked {
        context.check_reply()?;
        document(context.reply, command);
    }
    Ok(())
}

fn document(reply: &mut Reply, command: &Command) {
    reply.bulk(command.name.as_bytes());
    let has_subcommands = !command.subcommands.is_empty();
    reply.map(3 + usize::from(has_subcommands));
    for (field, value) in
        [("summary", command.summary), ("since", command.since), ("group", command.group)]
    {
        reply.bulk(field.as_bytes());
        reply.bulk(value.as_bytes());
    }
    if has_subcommands {
        reply.bulk(b"subcommands");
        reply.map(command.subcommands.len());
        command.subcommands.iter().for_each(|subcommand| document(reply, subcommand));
    }
}

pub(super) fn list(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let is_shown: Box<dyn Fn(&Command) -> bool> = match args.len() {
        2 => Box::new(|_| true),
        5 if args.is(2, "filterby") && args.is(3, "pattern") => {
            let pattern = args.at(4).to_ascii_lowercase();
            Box::new(move |command| glob::matches(&pattern, command.name.as_bytes()))
        }
        5 if args.is(2, "filterby") && args.is(3, "aclcat") => {
            let category = format!("@{}", String::from_utf8_lossy(args.at(4)).to_lowercase());
            Box::new(move |command| categories(command).contains(&category))
        }
        // There are no modules.
        5 if args.is(2, "filterby") && args.is(3, "module") => Box::new(|_| false),
        _ => return Err(Failure::SYNTAX),
    };
    let flat =
        COMMANDS.iter().flat_map(|&command| std::iter::once(command).chain(command.subcommands));
    let shown: Vec<_> = flat.filter(|command| is_shown(command)).collect();
    context.reply.array(shown.len());
    shown.iter().for_each(|command| context.reply.bulk(command.name.as_bytes()));
    Ok(())
}

pub(super) fn getkeys(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let inner = args.from(2);
    let command = find(inner).map_err(|_| Failure::fixed("ERR Invalid command specified"))?;
    if command.keys.0 == 0 {
        return Err(Failure::fixed("ERR The command has no key arguments"));
    }
    if !command.is_arity(inner.len()) {
        return Err(Failure::fixed("ERR Invalid number of arguments specified for command"));
    }
    let keys = command.keys_of(inner);
    context.reply.array(keys.len());
    keys.iter().for_each(|key| context.reply.bulk(key));
    Ok(())
}
