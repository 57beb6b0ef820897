//! INFO: sections of `name:value` lines, with the names of Redis.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use seawall::Stats;

use super::connection::REDIS_VERSION;
use super::{Args, Context, Outcome};
use crate::limits::DATABASES;
use crate::pubsub::Kind;

type Section = fn(&mut Context<'_, '_>, &mut String) -> Outcome;

/// Sections by name, in the order in which they are shown.
const SECTIONS: &[(&str, Section)] = &[
    ("Server", server),
    ("Clients", clients),
    ("Memory", memory),
    ("Persistence", persistence),
    ("Stats", stats),
    ("Replication", replication),
    ("CPU", cpu),
    (COMMANDS, commands),
    ("Wal", wal),
    ("Checkpoint", checkpoint),
    ("Buffer", buffer),
    ("Txn", transactions),
    ("Keyspace", keyspace),
];
/// The section that is only shown to who asks for it, or for all.
const COMMANDS: &str = "Commandstats";

pub(super) fn info(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let asks = |word: &str| (1..args.len()).any(|index| args.is(index, word));
    let is_all = asks("all") || asks("everything");
    let is_default = args.len() == 1 || asks("default");
    let mut text = String::new();
    for &(name, section) in SECTIONS {
        if !(is_all || asks(name) || is_default && name != COMMANDS) {
            continue;
        }
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        line(&mut text, format_args!("# {name}"));
        section(context, &mut text)?;
    }
    context.reply.verbatim(&text);
    Ok(())
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    write!(text, "{line}\r\n").expect("writing to memory");
}

fn server(context: &mut Context<'_, '_>, text: &mut String) -> Outcome {
    let uptime = context.server.started.elapsed().as_secs();
    let port = context.server.addresses().first().map_or(0, std::net::SocketAddr::port);
    line(text, format_args!("redis_version:{REDIS_VERSION}"));
    line(text, format_args!("seawall_version:{}", env!("CARGO_PKG_VERSION")));
    line(text, format_args!("redis_mode:standalone"));
    line(text, format_args!("os:{} {}", std::env::consts::OS, std::env::consts::ARCH));
    line(text, format_args!("arch_bits:64"));
    line(text, format_args!("process_id:{}", std::process::id()));
    line(text, format_args!("run_id:{}", context.server.run_id));
    line(text, format_args!("tcp_port:{port}"));
    line(text, format_args!("server_time_usec:{}", crate::clock::now_us()));
    line(text, format_args!("uptime_in_seconds:{uptime}"));
    line(text, format_args!("uptime_in_days:{}", uptime / 86_400));
    Ok(())
}

fn clients(context: &mut Context<'_, '_>, text: &mut String) -> Outcome {
    let most = context.server.settings.clients_max.load(Ordering::Relaxed);
    line(text, format_args!("connected_clients:{}", context.server.clients.count()));
    line(text, format_args!("maxclients:{most}"));
    line(text, format_args!("blocked_clients:{}", context.server.clients.blocked()));
    Ok(())
}

fn memory(context: &mut Context<'_, '_>, text: &mut String) -> Outcome {
    if let Some(memory) = crate::process::memory() {
        line(text, format_args!("used_memory:{}", memory.resident_bytes));
        line(text, format_args!("used_memory_rss:{}", memory.resident_bytes));
        line(text, format_args!("used_memory_peak:{}", memory.resident_bytes_max));
    }
    line(text, format_args!("maxmemory:0"));
    line(text, format_args!("maxmemory_policy:noeviction"));
    if let Some(stats) = engine(context) {
        line(text, format_args!("used_memory_dataset:{}", stats.page_file_bytes));
    }
    Ok(())
}

/// What the engine tells of itself; nothing while it is being opened.
fn engine(context: &Context<'_, '_>) -> Option<Stats> {
    context.server.keyspace().map(|keyspace| keyspace.engine.stats())
}

fn cpu(_context: &mut Context<'_, '_>, text: &mut String) -> Outcome {
    let Some(time) = crate::process::cpu_time() else { return Ok(()) };
    for (name, us) in [
        ("used_cpu_sys", time.system_us),
        ("used_cpu_user", time.user_us),
        ("used_cpu_sys_children", time.system_children_us),
        ("used_cpu_user_children", time.user_children_us),
    ] {
        line(text, format_args!("{name}:{}.{:06}", us / 1_000_000, us % 1_000_000));
    }
    Ok(())
}

fn commands(context: &mut Context<'_, '_>, text: &mut String) -> Outcome {
    for told in context.server.calls.lines() {
        line(text, format_args!("{told}"));
    }
    Ok(())
}

fn wal(context: &mut Context<'_, '_>, text: &mut String) -> Outcome {
    let Some(stats) = engine(context) else { return Ok(()) };
    line(text, format_args!("wal_end_lsn:{}", stats.end_lsn));
    line(text, format_args!("wal_durable_lsn:{}", stats.durable_lsn));
    line(text, format_args!("wal_bytes:{}", stats.wal_bytes));
    line(text, format_args!("wal_bytes_written:{}", stats.wal_bytes_written));
    line(text, format_args!("wal_flushes:{}", stats.flushes));
    Ok(())
}

fn checkpoint(context: &mut Context<'_, '_>, text: &mut String) -> Outcome {
    let Some(stats) = engine(context) else { return Ok(()) };
    line(text, format_args!("checkpoints:{}", stats.checkpoints));
    line(text, format_args!("redo_lsn:{}", stats.redo_lsn));
    line(text, format_args!("estimated_recovery_ms:{}", stats.estimated_recovery.as_millis()));
    Ok(())
}

fn buffer(context: &mut Context<'_, '_>, text: &mut String) -> Outcome {
    let Some(stats) = engine(context) else { return Ok(()) };
    line(text, format_args!("cache_pages:{}", stats.cache_pages));
    line(text, format_args!("dirty_pages:{}", stats.dirty_pages));
    line(text, format_args!("cache_hits:{}", stats.cache_hits));
    line(text, format_args!("cache_misses:{}", stats.cache_misses));
    line(text, format_args!("page_bytes_written:{}", stats.page_bytes_written));
    Ok(())
}

fn transactions(context: &mut Context<'_, '_>, text: &mut String) -> Outcome {
    let Some(stats) = engine(context) else { return Ok(()) };
    line(text, format_args!("commits:{}", stats.commits));
    line(text, format_args!("rollbacks:{}", stats.rollbacks));
    line(text, format_args!("active_transactions:{}", stats.active_transactions));
    line(text, format_args!("version_bytes:{}", stats.version_bytes));
    Ok(())
}

fn persistence(context: &mut Context<'_, '_>, text: &mut String) -> Outcome {
    let is_loading = context.server.keyspace().is_none();
    line(text, format_args!("loading:{}", u8::from(is_loading)));
    line(text, format_args!("async_loading:0"));
    line(text, format_args!("aof_enabled:1"));
    let Some(keyspace) = context.server.keyspace() else { return Ok(()) };
    let saves = &keyspace.saves;
    let is_running = u8::from(saves.is_running());
    let status = if saves.has_failed() { "err" } else { "ok" };
    line(text, format_args!("rdb_bgsave_in_progress:{is_running}"));
    line(text, format_args!("rdb_last_save_time:{}", saves.last_s()));
    line(text, format_args!("rdb_last_bgsave_status:{status}"));
    line(text, format_args!("aof_rewrite_in_progress:{is_running}"));
    line(text, format_args!("aof_rewrite_scheduled:0"));
    Ok(())
}

fn stats(context: &mut Context<'_, '_>, text: &mut String) -> Outcome {
    let stats = &context.server.stats;
    for (name, counter) in [
        ("total_connections_received", &stats.connections),
        ("total_commands_processed", &stats.commands),
        ("total_net_input_bytes", &stats.input_bytes),
        ("total_net_output_bytes", &stats.output_bytes),
        ("rejected_connections", &stats.rejected),
        ("keyspace_hits", &stats.hits),
        ("keyspace_misses", &stats.misses),
        ("total_error_replies", &stats.errors),
        ("client_output_buffer_limit_disconnections", &stats.overflowed),
    ] {
        line(text, format_args!("{name}:{}", counter.load(Ordering::Relaxed)));
    }
    let expired = context.server.keyspace().map_or(0, |keys| keys.expired.load(Ordering::Relaxed));
    line(text, format_args!("expired_keys:{expired}"));
    line(text, format_args!("evicted_keys:0"));
    let pubsub = &context.server.pubsub;
    for (name, kind) in [
        ("pubsub_channels", Kind::Channel),
        ("pubsub_patterns", Kind::Pattern),
        ("pubsubshard_channels", Kind::Shard),
    ] {
        line(text, format_args!("{name}:{}", pubsub.count(kind)));
    }
    Ok(())
}

fn replication(_context: &mut Context<'_, '_>, text: &mut String) -> Outcome {
    line(text, format_args!("role:master"));
    line(text, format_args!("connected_slaves:0"));
    // No replica counts from it; dashboards expect the line.
    line(text, format_args!("master_repl_offset:0"));
    Ok(())
}

fn keyspace(context: &mut Context<'_, '_>, text: &mut String) -> Outcome {
    let Ok(unit) = context.unit() else { return Ok(()) };
    for database in 0..DATABASES {
        // Of the server now, whatever the connection sees.
        let space = unit.keyspace().space(database);
        let (keys, expires) = (space.keys.len()?, space.expiring()?);
        if keys > 0 {
            line(text, format_args!("db{database}:keys={keys},expires={expires},avg_ttl=0"));
        }
    }
    unit.rest_on_all();
    Ok(())
}
