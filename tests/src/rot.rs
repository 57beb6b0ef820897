//! Rot: bytes that were durable change, or turn up in another place. Whoever opens and reads then
//! gets everything that was committed, or an error that says so, or a verification finds it; never
//! anything else (L2, P4).
//!
//! What is damaged, one thing at a time: each block of the log that holds a frame, each page (a bit, all of it, its place),
//! each copy of the state in `control`, each block of the doublewrite file. The log has been flushed
//! and left idle before, so that every frame that counts is known to have been durable.

use std::fmt;
use std::path::{Path, PathBuf};

use seawall::Error;
use seawall_wal::disk::SimDisk;
use seawall_wal::disk::sim::CrashPlan;

use crate::check::{read_all, verify};
use crate::ensure;
use crate::failure::{Failure, Outcome};
use crate::oracle::Oracle;
use crate::scenario::Scenario;
use crate::session::Session;
use crate::settings::PATH;
use crate::trials::{contain, try_all};

/// Failures after which a run gives up.
const FAILURES_MAX: usize = 10;
/// What is damaged at once.
const BLOCK_BYTES: usize = 4096;
/// Steps of the flusher after which an idle log has its stamp.
const FLUSH_STEPS: usize = 4;

/// What was tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Damaged disks.
    pub damages: u64,
    /// Of these, the ones that were refused, or that a verification has found.
    pub refused: u64,
    /// Of these, the ones in which nothing was missing.
    pub healed: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { damages, refused, healed } = self;
        write!(f, "{damages} damages, {refused} refused, {healed} healed")
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// What was tried.
    pub counts: Counts,
    /// What went wrong, each with the place.
    pub failures: Vec<Failure>,
}

impl Report {
    /// Adds what another run found.
    pub fn add(&mut self, other: Self) {
        self.counts.damages += other.counts.damages;
        self.counts.refused += other.counts.refused;
        self.counts.healed += other.counts.healed;
        self.failures.extend(other.failures);
    }
}

/// One damage.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// A bit is flipped.
    Bit { offset: usize },
    /// A block is zero.
    Zeros { offset: usize },
    /// A page stands in the place of another one.
    Misplaced { from: usize, to: usize, bytes: usize },
}

impl Damage {
    fn apply(self, bytes: &mut [u8]) {
        match self {
            Self::Bit { offset } => bytes[offset] ^= 0x10,
            Self::Zeros { offset } => bytes[offset..offset + BLOCK_BYTES].fill(0),
            Self::Misplaced { from, to, bytes: count } => {
                bytes.copy_within(from..from + count, to);
            }
        }
    }
}

/// A disk to be damaged: what it is, and what the database on it holds.
struct Target<'a> {
    scenario: &'a Scenario,
    name: &'static str,
    disk: SimDisk,
    oracle: Oracle,
}

/// Runs a scenario, and damages what it leaves, killed and closed.
#[must_use]
pub fn run(scenario: &Scenario) -> Report {
    let targets = match contain(|| targets(scenario)) {
        Ok(targets) => targets,
        Err(why) => {
            return Report { failures: vec![why.at(&scenario.name)], ..Report::default() };
        }
    };
    let damages: Vec<_> = targets
        .iter()
        .flat_map(|target| target.damages().into_iter().map(move |it| (target, it)))
        .collect();
    let name = |index: usize| {
        let (target, (path, damage)) = &damages[index];
        let file = path.file_name().unwrap_or_default().display();
        format!("damage of {} {}, {file} {damage:?}", scenario.name, target.name)
    };
    let run = |index: usize| {
        let (target, (path, damage)) = &damages[index];
        let mut report = Report::default();
        report.counts.damages = 1;
        match target.try_damage(path, *damage) {
            Ok(true) => report.counts.healed += 1,
            Ok(false) => report.counts.refused += 1,
            Err(why) => report.failures.push(why.at(name(index))),
        }
        report
    };
    let is_enough = |report: &Report| report.failures.len() >= FAILURES_MAX;
    try_all(damages.len(), name, run, Report::add, is_enough)
}

fn targets(scenario: &Scenario) -> Outcome<Vec<Target<'_>>> {
    let mut session = Session::create(&scenario.settings)?;
    session.run(&scenario.prepare)?;
    session.run(&scenario.operations)?;
    session.database().sync()?;
    for _ in 0..FLUSH_STEPS {
        seawall::testing::flush_step(session.database())?;
    }
    let target = |name, session: &Session| {
        let disk = session.disk.crash(CrashPlan::Everything);
        let mut oracle = session.oracle.clone();
        oracle.cut_after(oracle.newest(), 0);
        Target { scenario, name, disk, oracle }
    };
    let killed = target("killed", &session);
    session.close()?;
    Ok(vec![killed, target("closed", &session)])
}

impl Target<'_> {
    fn damages(&self) -> Vec<(PathBuf, Damage)> {
        let page_bytes = usize::try_from(self.scenario.settings.page_bytes).expect("a page size");
        let mut damages = Vec::new();
        for (path, _) in self.disk.files() {
            let bytes = self.disk.read_file(&path).expect("it is listed");
            let is_pages = path == Path::new(PATH).join("pages");
            let unit = if is_pages { page_bytes } else { BLOCK_BYTES };
            let is_used = |unit: &[u8]| unit.iter().any(|&byte| byte != 0);
            let used = bytes.chunks_exact(unit).enumerate().filter(|(_, unit)| is_used(unit));
            let used: Vec<_> = used.map(|(index, _)| index * unit).collect();
            for (&offset, number) in used.iter().zip(0_usize..) {
                // Bits all over the unit, a different one in each.
                let within = [5, 9, 70, 130, 700, 2000, unit - 90][number % 7];
                damages.push((path.clone(), Damage::Bit { offset: offset + within }));
                if offset.is_multiple_of(2 * BLOCK_BYTES) {
                    damages.push((path.clone(), Damage::Zeros { offset }));
                }
                let next = used[(number + 1) % used.len()];
                if is_pages && next != offset {
                    let damage = Damage::Misplaced { from: offset, to: next, bytes: unit };
                    damages.push((path.clone(), damage));
                }
            }
        }
        damages
    }

    /// Returns whether nothing was missing; if not, it was refused or found.
    fn try_damage(&self, path: &Path, damage: Damage) -> Outcome<bool> {
        let disk = self.disk.fork();
        let mut bytes = disk.read_file(path).expect("it is listed");
        let before = bytes.clone();
        damage.apply(&mut bytes);
        ensure!(bytes != before, "the damage changes nothing");
        disk.write_file(path, &bytes);
        let tried = contain(|| {
            let database = self.scenario.settings.open(&disk)?;
            let found = read_all(&database);
            let verified = verify(&database);
            seawall::testing::abandon(database);
            self.oracle.survivor(u64::MAX, &found?)?;
            verified
        });
        match tried {
            Ok(()) => Ok(true),
            Err(why) if why.is_finding() => Ok(false),
            Err(why) => match why.error() {
                Some(Error::Corrupt { .. } | Error::UnsupportedFormat { .. }) => Ok(false),
                _ => Err(why),
            },
        }
    }
}
