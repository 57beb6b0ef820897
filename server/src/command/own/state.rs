//! SW.LSN, SW.STATS, SW.DURABILITY: where the log and the engine stand, and what this connection waits
//! for.

use seawall::Durability;

use super::figures::{Figure, tell};
use super::{Args, Context, Failure, Outcome};

/// The end of the log as everybody sees it, how far it is durable, this connection's last commit (0
/// before the first), and the snapshot that it reads.
pub(super) fn lsn(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    let engine = &context.unit()?.keyspace().engine;
    // In this order, so that nothing is durable that is not logged yet.
    let durable = engine.durable_lsn();
    let logged = engine.logged_lsn().max(durable);
    let snapshot = context.session.view.as_ref().map(|view| view.lsn());
    let figures = [
        ("logged", Figure::Position(logged)),
        ("durable", Figure::Position(durable)),
        ("commit", Figure::Position(context.session.last_commit)),
        ("snapshot", Figure::or_nothing(snapshot, Figure::Position)),
    ];
    tell(context.reply, &figures, 0);
    Ok(())
}

/// For the writes of this connection from now on; RESET gives the server's choice back.
pub(super) fn durability(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    context.session.durability = Some(match () {
        () if args.is(1, "sync") => Durability::Sync,
        () if args.is(1, "relaxed") => Durability::Relaxed,
        () => return Err(Failure::SYNTAX),
    });
    context.reply.ok();
    Ok(())
}

/// The engine's figures, by the names that its own interface has; times in microseconds.
pub(super) fn stats(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    use Figure::{Count, Position, Time};
    let stats = context.unit()?.keyspace().engine.stats();
    let figures = [
        ("end_lsn", Position(stats.end_lsn)),
        ("durable_lsn", Position(stats.durable_lsn)),
        ("visible_lsn", Position(stats.visible_lsn)),
        ("redo_lsn", Position(stats.redo_lsn)),
        ("undo_lsn", Position(stats.undo_lsn)),
        ("wal_bytes", Count(stats.wal_bytes)),
        ("undo_bytes", Count(stats.undo_bytes)),
        ("page_file_bytes", Count(stats.page_file_bytes)),
        ("cache_pages", Count(stats.cache_pages)),
        ("dirty_pages", Count(stats.dirty_pages)),
        ("cache_hits", Count(stats.cache_hits)),
        ("cache_misses", Count(stats.cache_misses)),
        ("version_bytes", Count(stats.version_bytes)),
        ("active_transactions", Count(stats.active_transactions)),
        ("checkpoints", Count(stats.checkpoints)),
        ("stalls", Count(stats.stalls)),
        ("commits", Count(stats.commits)),
        ("rollbacks", Count(stats.rollbacks)),
        ("conflicts", Count(stats.conflicts)),
        ("flushes", Count(stats.flushes)),
        ("wal_bytes_written", Count(stats.wal_bytes_written)),
        ("page_bytes_written", Count(stats.page_bytes_written)),
        ("estimated_recovery_us", Time(stats.estimated_recovery)),
        ("stall_time_us", Time(stats.stall_time)),
        ("oldest_snapshot_age_us", Figure::or_nothing(stats.oldest_snapshot_age, Time)),
    ];
    tell(context.reply, &figures, 0);
    Ok(())
}
