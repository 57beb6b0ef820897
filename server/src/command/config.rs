//! CONFIG.

use super::{Args, Context, Failure, Outcome};
use crate::glob;
use crate::settings::{PARAMETERS, Parameter, Setter};

pub(super) fn get(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let patterns: Vec<Vec<u8>> = args.from(2).iter().map(<[u8]>::to_ascii_lowercase).collect();
    let is_asked = |parameter: &&Parameter| {
        patterns.iter().any(|pattern| glob::matches(pattern, parameter.name.as_bytes()))
    };
    let found: Vec<_> = PARAMETERS.iter().filter(is_asked).collect();
    context.reply.map(found.len());
    for parameter in found {
        context.reply.bulk(parameter.name.as_bytes());
        context.reply.bulk((parameter.get)(context.server).as_bytes());
    }
    Ok(())
}

/// A parameter, as it was named, and what it should become.
struct Change<'a> {
    name: String,
    parameter: &'static Parameter,
    set: Setter,
    value: &'a str,
}

pub(super) fn set(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    if !args.len().is_multiple_of(2) {
        return Err(Failure::wrong_arity("config|set"));
    }
    let mut changes = Vec::new();
    for index in (2..args.len()).step_by(2) {
        let name = String::from_utf8_lossy(args.at(index)).into_owned();
        let parameter = PARAMETERS.iter().find(|parameter| args.is(index, parameter.name));
        let parameter = parameter.ok_or_else(|| {
            Failure::new(format!(
                "ERR Unknown option or number of arguments for CONFIG SET - '{name}'"
            ))
        })?;
        let Some(set) = parameter.set else {
            return Err(failed(&name, "can't set immutable config"));
        };
        let value =
            std::str::from_utf8(args.at(index + 1)).map_err(|_| failed(&name, "not UTF-8"))?;
        if changes.iter().any(|change: &Change<'_>| change.parameter.name == parameter.name) {
            return Err(failed(&name, "duplicate parameter"));
        }
        changes.push(Change { name, parameter, set, value });
    }
    let settings = &context.server.settings;
    let before: Vec<_> =
        changes.iter().map(|change| (change.parameter.get)(context.server)).collect();
    for (index, change) in changes.iter().enumerate() {
        if let Err(why) = (change.set)(settings, change.value) {
            // All of them or none: these values were accepted once.
            for (changed, before) in changes.iter().zip(&before).take(index) {
                drop((changed.set)(settings, before));
            }
            return Err(failed(&change.name, &why.text()));
        }
    }
    context.reply.ok();
    Ok(())
}

fn failed(name: &str, why: &str) -> Failure {
    Failure::new(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"))
}

pub(super) fn resetstat(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    context.server.stats.reset();
    context.server.calls.reset();
    context.reply.ok();
    Ok(())
}
