//! `seawall verify`: is everything there, and is it right?
//!
//! 1. The files are read as they are, so that a database can be verified that will not open: the log up
//!    to its end, the undo files that recovery would read, and every page by itself. Where recovery is due, a damaged page is no finding if
//!    recovery would put its image back from the doublewrite file, or if redo would give it its whole
//!    content: a crash tore it, and recovery mends it.
//!    Of a database whose creation did not finish nothing is looked at: opening makes it anew.
//! 2. A database that was shut down cleanly is opened for reading only, and its trees are walked: a
//!    page may be right by itself and wrong beside the others, as after a write that the disk lost.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use indicatif::ProgressBar;
use seawall::page::{self, PageView, Verified};
use seawall::pagefile::PageFile;
use seawall::recovery::Outlook;
use seawall::writeback::doublewrite::Slot;
use seawall::writeback::restore::newest_of_each_page;
use seawall::{Error, Lsn, VerifyReport};
use seawall_wal::PageId;
use seawall_wal::control::EpochEntry;
use seawall_wal::disk::AlignedBuf;
use seawall_wal::log::LogFiles;

use crate::database::DatabaseArg;
use crate::failure::Failure;
use crate::inspect::{Files, UNFINISHED, undecodable};
use crate::output::{self, Output, Unit};

/// Pages that are read side by side.
const BATCH_PAGES: u64 = 64;
/// Findings that are told one by one.
const FINDINGS_MAX: usize = 1000;

/// Check the log, undo files, every page, and after a clean shutdown the trees; changes nothing
#[derive(Args, Debug)]
pub(crate) struct Verify {
    #[command(flatten)]
    database: DatabaseArg,
}

impl Verify {
    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Failure> {
        let bar = output::progress("verify", 0, Unit::Count);
        let report = self.verify(&bar)?;
        bar.finish_and_clear();
        // Damage is told by the exit code though nobody reads the report to its end.
        let told = out.result(&report);
        match report.findings.len() {
            0 => told,
            count => Err(Failure::Failed(output::counted(count, "finding"))),
        }
    }

    fn verify(&self, bar: &ProgressBar) -> Result<VerifyReport, Failure> {
        let started = Instant::now();
        let mut findings = Findings::default();
        let mut report = VerifyReport::default();
        let files = Files::open(&self.database)?;
        if files.is_unfinished() {
            bar.suspend(|| output::message(&UNFINISHED));
            report.elapsed = started.elapsed();
            return Ok(report);
        }
        let slots = findings.or_add(files.doublewrite_slots())?.unwrap_or_default();
        let log = check_log(&files, &slots, &mut findings)?;
        report.pages = check_pages(&files, &slots, &log, &mut findings, bar)?;
        report.records = log.records;
        // The files are let go before the database is opened: both take its lock.
        drop(files);
        match findings.or_add(self.walk_trees(bar))? {
            Some(Some(walked)) => {
                report.trees = walked.trees;
                // Keys; of the log's records, those that recovery would begin with are read again.
                report.records += walked.records;
                walked.findings.iter().for_each(|finding| findings.add(finding));
            }
            // It has said so.
            Some(None) => {}
            None => {
                let why = "the trees are not walked: the database does not open, see the findings";
                bar.suspend(|| output::message(&why));
            }
        }
        report.findings = findings.into_sentences();
        report.elapsed = started.elapsed();
        Ok(report)
    }

    /// Verifies a database from the inside; `None` when it needs recovery.
    fn walk_trees(&self, bar: &ProgressBar) -> Result<Option<VerifyReport>, Failure> {
        let Some(database) = self.database.open_unchanged()? else {
            let why = "the trees are not walked: the database needs recovery";
            bar.suspend(|| output::message(&why));
            return Ok(None);
        };
        bar.set_message("verify, trees");
        let report = database.verify(|progress| {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
        })?;
        database.close()?;
        Ok(Some(report))
    }
}

/// What is wrong; of endless damage the first part, and how much more there is.
#[derive(Default)]
struct Findings {
    sentences: Vec<String>,
    more: u64,
}

impl Findings {
    /// Notes a finding, unless it was told before.
    fn add(&mut self, finding: impl Display) {
        let finding = finding.to_string();
        if self.sentences.contains(&finding) {
            return;
        }
        if self.sentences.len() < FINDINGS_MAX {
            self.sentences.push(finding);
        } else {
            self.more += 1;
        }
    }

    /// What an operation gives; a failure of it is a finding.
    fn or_add<T>(&mut self, result: Result<T, Failure>) -> Result<Option<T>, Failure> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Failure::Failed(finding) | Failure::Damaged(finding)) => {
                self.add(finding);
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    fn into_sentences(mut self) -> Vec<String> {
        if self.more > 0 {
            self.sentences.push(format!("and {} more", self.more));
        }
        self.sentences
    }
}

/// What the log says about the pages.
#[derive(Default)]
struct LogFacts {
    records: u64,
    /// Its end, and what recovery would do, where it is in order up to there.
    end: Option<(Lsn, Outlook)>,
    /// The last record from the redo LSN on that gives a page its whole content.
    last_inits: BTreeMap<PageId, Lsn>,
}

/// Reads the log to its end.
fn check_log(files: &Files, slots: &[Slot], findings: &mut Findings) -> Result<LogFacts, Failure> {
    let mut facts = LogFacts::default();
    let Some(log) = findings.or_add(files.log())? else { return Ok(facts) };
    let Some(stopped_lsn) = findings.or_add(read_log(files, &log, &mut facts))? else {
        return Ok(facts);
    };
    let Some(end) = findings.or_add(files.log_end(&log, slots))? else { return Ok(facts) };
    let outlook = findings.or_add(files.outlook(&log, end.end_lsn))?;
    if let Some(outlook) = outlook {
        files.undo_findings(&outlook).iter().for_each(|finding| findings.add(finding));
        facts.end = Some((end.end_lsn, outlook));
    }
    match stopped_lsn {
        // The end is looked for from the last checkpoint on; this is in front of it.
        Some((lsn, finding)) if lsn < end.end_lsn => findings.add(finding),
        _ => {}
    }
    Ok(facts)
}

/// Reads every record; where reading stopped and why, if a frame was read in the last epoch.
fn read_log(
    files: &Files,
    log: &Arc<LogFiles>,
    facts: &mut LogFacts,
) -> Result<Option<(Lsn, Error)>, Failure> {
    let master = files.state().master;
    let redo_lsn = master.map_or(Lsn::NONE, |master| master.redo_lsn);
    let start_lsn = master.map_or(Lsn::MAX, |master| master.start_lsn());
    // Without a hint, as recovery reads.
    let mut reader = log.reader(files.log_start(log).min(start_lsn), None, None)?;
    while let Some(found) = reader.next_record()? {
        facts.records += 1;
        if found.lsn < redo_lsn {
            continue;
        }
        let body = found.body().map_err(undecodable(log, &found))?;
        let decoded = found.decode(&body).map_err(undecodable(log, &found))?;
        let refs = decoded.body.page_refs().iter();
        let inits = refs.filter(|page| page.is_init);
        facts.last_inits.extend(inits.map(|page| (page.page, found.lsn)));
    }
    let stop = reader.stop().filter(|stop| !stop.is_epoch_empty);
    Ok(stop.map(|stop| (stop.lsn, stop.finding.clone())))
}

/// Reads every page; how many there are.
fn check_pages(
    files: &Files,
    slots: &[Slot],
    log: &LogFacts,
    findings: &mut Findings,
    bar: &ProgressBar,
) -> Result<u64, Failure> {
    let Some(pages) = findings.or_add(files.pages())? else { return Ok(0) };
    let mended = match &log.end {
        Some((_, outlook)) if files.needs_recovery() => Mended::by(outlook, slots, log),
        _ => Mended::default(),
    };
    mended.images.values().filter_map(|slot| beyond(&pages, slot)).for_each(|f| findings.add(f));
    let end_lsn = log.end.as_ref().map(|(end_lsn, _)| *end_lsn);
    bar.set_length(pages.pages());
    let mut first = 0;
    while first < pages.pages() {
        let end = pages.pages().min(first + BATCH_PAGES);
        let mut batch: Vec<_> = (first..end)
            .map(|page| (PageId::new(page), AlignedBuf::new(files.page_bytes())))
            .collect();
        let read = pages.read_pages(&mut batch);
        for ((page, bytes), read) in batch.iter().zip(read) {
            let finding = match read {
                Err(error) => mended.remaining(*page, error, &pages),
                Ok(Verified::NeverWritten) => None,
                Ok(Verified::Page(_)) => {
                    finding_in(&pages, *page, bytes, &files.state().epochs, end_lsn)
                }
            };
            if let Some(finding) = finding {
                findings.add(finding);
            }
        }
        bar.set_position(end);
        first = end;
    }
    Ok(pages.pages())
}

/// The damage that recovery mends.
#[derive(Default)]
struct Mended<'a> {
    /// The images that would be put back.
    images: BTreeMap<PageId, &'a Slot>,
    /// Pages that redo gives their whole content without reading them.
    remade: BTreeSet<PageId>,
}

impl<'a> Mended<'a> {
    fn by(outlook: &Outlook, slots: &'a [Slot], log: &LogFacts) -> Self {
        let redone = log.last_inits.iter().filter(|(page, lsn)| outlook.redoes(**page, **lsn));
        Self {
            images: newest_of_each_page(slots, outlook.synced_batch()),
            remade: redone.map(|(page, _)| *page).collect(),
        }
    }

    /// What is left of the damage of a page that cannot be read.
    fn remaining(&self, page: PageId, damage: Error, pages: &PageFile) -> Option<Error> {
        let is_damaged = matches!(damage, Error::Corrupt { .. } | Error::UnsupportedFormat { .. });
        match self.images.get(&page) {
            // It is read before it is put back; without an image redo does not read it.
            Some(_) if !is_damaged => Some(damage),
            _ if self.remade.contains(&page) => None,
            Some(slot) => {
                let checked = page::check(&slot.image).err();
                checked.map(|finding| finding.in_file(pages.path(), pages.offset(page)))
            }
            None => Some(damage),
        }
    }
}

/// An image whose page the page file has no place for.
fn beyond(pages: &PageFile, slot: &Slot) -> Option<Error> {
    (slot.page.get() >= pages.pages()).then(|| {
        let expected = format!("page {}, of which the doublewrite file has an image", slot.page);
        Error::corrupt(pages.path(), pages.offset(slot.page), expected, "the end of the file")
    })
}

/// What is wrong with a page whose checksum is right.
fn finding_in(
    pages: &PageFile,
    page: PageId,
    bytes: &[u8],
    epochs: &[EpochEntry],
    end_lsn: Option<Lsn>,
) -> Option<Error> {
    let offset = pages.offset(page);
    if let Err(finding) = page::check(bytes) {
        return Some(finding.in_file(pages.path(), offset));
    }
    let page_lsn = PageView::new(bytes).page_lsn();
    if let Err(finding) = pages.refuse_newer_than_its_log(page, page_lsn, epochs) {
        return Some(finding);
    }
    let end_lsn = end_lsn.filter(|end_lsn| page_lsn > *end_lsn)?;
    let expected = format!("a page_lsn up to the end of the log at {end_lsn}");
    Some(Error::corrupt(pages.path(), offset, expected, page_lsn.to_string()))
}

#[cfg(test)]
mod tests {
    use super::{FINDINGS_MAX, Failure, Findings};

    #[test]
    fn endless_damage_is_summed_up() {
        let mut findings = Findings::default();
        (0..FINDINGS_MAX + 2).for_each(|number| findings.add(number));
        let sentences = findings.into_sentences();
        assert_eq!(sentences.len(), FINDINGS_MAX + 1);
        assert_eq!(sentences[FINDINGS_MAX], "and 2 more");
    }

    #[test]
    fn what_was_told_is_not_told_again() {
        let mut findings = Findings::default();
        ["page 7", "page 8", "page 7"].iter().for_each(|finding| findings.add(finding));
        assert_eq!(findings.into_sentences(), ["page 7", "page 8"]);
    }

    #[test]
    fn a_failed_operation_is_a_finding_but_a_database_in_use_is_not() {
        let mut findings = Findings::default();
        assert_eq!(findings.or_add(Ok(7)).unwrap(), Some(7));
        assert!(findings.or_add::<()>(Err(Failure::Failed("damaged".into()))).unwrap().is_none());
        assert!(findings.or_add::<()>(Err(Failure::Unavailable("in use".into()))).is_err());
        assert_eq!(findings.into_sentences(), ["damaged"]);
    }
}
