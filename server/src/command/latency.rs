//! LATENCY: spikes that were watched, and histograms of all commands.

use std::fmt::Write as _;

use super::{Args, Context, Failure, Outcome};
use crate::clock;
use crate::latency::Samples;

pub(super) fn latest(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    let all = context.server.latency.all();
    context.reply.array(all.len());
    for (event, samples) in all {
        let Some(last) = samples.latest.back() else { continue };
        context.reply.array(4);
        context.reply.bulk(event.as_bytes());
        for number in [last.time_s, last.ms, samples.ms_max] {
            integer(context, number);
        }
    }
    Ok(())
}

fn integer(context: &mut Context<'_, '_>, number: u64) {
    context.reply.integer(i64::try_from(number).unwrap_or(i64::MAX));
}

pub(super) fn history(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let latest = context.server.latency.of(args.at(2)).unwrap_or_default().latest;
    context.reply.array(latest.len());
    for sample in latest {
        context.reply.array(2);
        integer(context, sample.time_s);
        integer(context, sample.ms);
    }
    Ok(())
}

pub(super) fn reset(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let named = args.from(2);
    let is_chosen = |event: &str| {
        named.len() == 0 || named.iter().any(|name| name.eq_ignore_ascii_case(event.as_bytes()))
    };
    context.reply.count(context.server.latency.reset(is_chosen));
    Ok(())
}

pub(super) fn graph(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let event = String::from_utf8_lossy(args.at(2));
    let samples = context
        .server
        .latency
        .of(args.at(2))
        .ok_or_else(|| Failure::new(format!("ERR No samples available for event '{event}'")))?;
    let text = samples.graph(&event, clock::now_ms() / 1000);
    context.reply.verbatim(&text);
    Ok(())
}

/// What GRAPH and HISTORY show, in sentences.
pub(super) fn doctor(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    let all = context.server.latency.all();
    let mut text = match context.server.settings.latency_threshold_ms() {
        0 => "Nothing is watched: CONFIG SET latency-monitor-threshold MILLISECONDS begins to.\n"
            .to_owned(),
        threshold if all.is_empty() => {
            format!("No command has taken {threshold} ms or longer since that was watched.\n")
        }
        threshold => format!("Commands that took {threshold} ms or longer:\n"),
    };
    for (event, samples) in &all {
        text += &diagnosis(event, samples, clock::now_ms() / 1000);
    }
    if !all.is_empty() {
        text += "SLOWLOG GET tells which commands those were, LATENCY HISTORY when.\n";
    }
    context.reply.verbatim(&text);
    Ok(())
}

fn diagnosis(event: &str, samples: &Samples, now_s: u64) -> String {
    let latest = &samples.latest;
    let count = u64::try_from(latest.len()).unwrap_or(u64::MAX).max(1);
    let average = latest.iter().map(|sample| sample.ms).sum::<u64>() / count;
    let deviation = latest.iter().map(|sample| sample.ms.abs_diff(average)).sum::<u64>() / count;
    let since = latest.front().map_or(0, |first| now_s.saturating_sub(first.time_s));
    let worst = samples.ms_max;
    let mut text = String::new();
    writeln!(
        text,
        "* {event}: in {count} of the last {since} seconds, {average} ms on average with a mean \
         deviation of {deviation} ms; the longest of all took {worst} ms."
    )
    .expect("writing to memory");
    text
}

/// For each command its calls, and how many of them took at most so many microseconds.
pub(super) fn histogram(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let named = args.from(2);
    let is_of = |name: &[u8], command: &str| {
        let container = command.split('|').next().unwrap_or(command);
        [command, container].iter().any(|word| name.eq_ignore_ascii_case(word.as_bytes()))
    };
    let is_asked =
        |command: &str| named.len() == 0 || named.iter().any(|name| is_of(name, command));
    let histograms = context.server.calls.histograms(is_asked);
    context.reply.map(histograms.len());
    for (command, histogram) in histograms {
        context.check_reply()?;
        context.reply.bulk(command.as_bytes());
        context.reply.map(2);
        context.reply.bulk(b"calls");
        integer(context, histogram.last().map_or(0, |&(_, count)| count));
        context.reply.bulk(b"histogram_usec");
        context.reply.map(histogram.len());
        for (us, count) in histogram {
            integer(context, us);
            integer(context, count);
        }
    }
    Ok(())
}

pub(super) fn help(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    context.reply.help(
        "LATENCY",
        &[
            "DOCTOR",
            "    Return a human readable latency analysis report.",
            "GRAPH <event>",
            "    Return an ASCII latency graph for the <event> class.",
            "HISTORY <event>",
            "    Return time-latency samples for the <event> class.",
            "LATEST",
            "    Return the latest latency samples for all events.",
            "RESET [<event> ...]",
            "    Reset latency data of one or more <event> classes.",
            "    (default: reset all data for all event classes)",
            "HISTOGRAM [COMMAND ...]",
            "    Return a cumulative distribution of latencies in the format of a histogram for the specified command names.",
            "    If no commands are specified then all histograms are replied.",
        ],
    );
    Ok(())
}
