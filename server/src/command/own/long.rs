//! SW.CHECKPOINT, SW.VERIFY, SW.BACKUP: what takes long is done in a thread of its own ([`Job`]), one of
//! each kind at a time.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use seawall::{BackupReport, CheckpointReport, VerifyReport};

use super::figures::{Figure, tell};
use super::{Args, Context, Failure, Outcome};
use crate::job::{Claim, Job, Single};
use crate::keyspace::Keyspace;
use crate::resp::Reply;

fn keyspace(context: &Context<'_, '_>) -> Outcome<Arc<Keyspace>> {
    context.server.keyspace().cloned().ok_or(Failure::LOADING)
}

fn claim(single: &Single, what: &str) -> Outcome<Claim> {
    single.claim().ok_or_else(|| Failure::new(format!("ERR a {what} is under way already")))
}

/// With WAIT the reply comes when recovery would begin at the position of the call, or later.
pub(super) fn checkpoint(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let waits = match args.len() {
        1 => false,
        2 if args.is(1, "wait") => true,
        _ => return Err(Failure::SYNTAX),
    };
    let keyspace = keyspace(context)?;
    if waits {
        context.session.job = Some(Job::start("save", keyspace.claim_save()?, tell_checkpoint)?);
    } else {
        keyspace.save_in_background()?;
        context.reply.simple("Checkpoint started");
    }
    Ok(())
}

fn tell_checkpoint(reply: &mut Reply, report: &CheckpointReport) {
    let figures = [
        ("begin_lsn", Figure::Position(report.begin_lsn)),
        ("end_lsn", Figure::Position(report.end_lsn)),
        ("redo_lsn", Figure::Position(report.redo_lsn)),
        ("undo_lsn", Figure::Position(report.undo_lsn)),
        ("dirty_pages", Figure::Count(report.dirty_pages)),
        ("active_transactions", Figure::Count(report.active_transactions)),
        ("segments_recycled", Figure::Count(report.segments_recycled)),
        ("elapsed_us", Figure::Time(report.elapsed)),
    ];
    tell(reply, &figures, 0);
}

/// Damage is no error of the command: it is what the command finds.
pub(super) fn verify(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    let keyspace = keyspace(context)?;
    let claim = claim(&keyspace.verifying, "verification")?;
    let work = move || {
        let _claim = claim;
        Ok(keyspace.engine.verify(|_| ())?)
    };
    context.session.job = Some(Job::start("verify", work, tell_verification)?);
    Ok(())
}

fn tell_verification(reply: &mut Reply, report: &VerifyReport) {
    let figures = [
        ("pages", Figure::Count(report.pages)),
        ("records", Figure::Count(report.records)),
        ("trees", Figure::Count(report.trees)),
        ("elapsed_us", Figure::Time(report.elapsed)),
    ];
    tell(reply, &figures, 1);
    reply.bulk(b"findings");
    reply.array(report.findings.len());
    report.findings.iter().for_each(|finding| reply.bulk(finding.as_bytes()));
}

/// The directory is one of the server's machine, so its path must not depend on where the server was
/// started.
pub(super) fn backup(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let dir = Path::new(OsStr::from_bytes(args.at(1))).to_owned();
    if !dir.is_absolute() {
        return Err(Failure::fixed("ERR the directory of a backup must be an absolute path"));
    }
    let keyspace = keyspace(context)?;
    let claim = claim(&keyspace.copying, "backup")?;
    let work = move || {
        let _claim = claim;
        Ok(keyspace.engine.backup(&dir)?)
    };
    context.session.job = Some(Job::start("backup", work, tell_backup)?);
    Ok(())
}

fn tell_backup(reply: &mut Reply, report: &BackupReport) {
    let figures = [
        ("lsn", Figure::Position(report.lsn)),
        ("bytes", Figure::Count(report.bytes)),
        ("elapsed_us", Figure::Time(report.elapsed)),
    ];
    tell(reply, &figures, 0);
}
