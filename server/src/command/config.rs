//! CONFIG.

use super::{Args, Context, Failure, Outcome};
use crate::glob;
use crate::settings::{PARAMETERS, Parameter, Parser};

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

pub(super) fn set(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    if !args.len().is_multiple_of(2) {
        return Err(Failure::SYNTAX);
    }
    let settings = &context.server.settings;
    let mut named: Vec<(&Parameter, Parser)> = Vec::new();
    for index in (2..args.len()).step_by(2) {
        let name = String::from_utf8_lossy(args.at(index));
        let parameter = PARAMETERS.iter().find(|parameter| args.is(index, parameter.name));
        let parameter = parameter.ok_or_else(|| {
            Failure::new(format!(
                "ERR Unknown option or number of arguments for CONFIG SET - '{name}'"
            ))
        })?;
        let Some(parse) = parameter.parse else {
            return Err(failed(&name, "can't set immutable config"));
        };
        if named.iter().any(|(other, _)| other.name == parameter.name) {
            return Err(failed(&name, "duplicate parameter"));
        }
        named.push((parameter, parse));
    }
    let mut changes = Vec::new();
    for (index, (parameter, parse)) in (3..).step_by(2).zip(named) {
        let failed = |why: &str| failed(parameter.name, why);
        let value = std::str::from_utf8(args.at(index)).map_err(|_| failed("not UTF-8"))?;
        changes.push(parse(settings, value).map_err(|why| failed(&why.text()))?);
    }
    // All of them or none.
    changes.into_iter().for_each(|change| settings.apply(change));
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
