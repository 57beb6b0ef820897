//! Windows: moments inside of an operation at which another thread could come in between. What waits
//! for one is done there, in the same thread, so that the interleaving is the same in every run.
//!
//! Most windows are operations of the disk, seen by its monitor. Some are points in the engine without
//! any I/O; builds with planted bugs reach those, others never do.

use std::path::Path;
use std::sync::{Arc, Mutex};

use seawall::planted::Point;
use seawall::{Database, Snapshot, Tree};
use seawall_wal::disk::SimDisk;
use seawall_wal::disk::sim::{OperationKind, SimOperation};

use super::{Session, Taken};
use crate::ensure;
use crate::failure::{Failure, Outcome};
use crate::operation::{Inside, Window};
use crate::oracle::{Bytes, CommitState, TreeKey, Writes};
use crate::settings::PATH;

/// What waits for windows, and what has been done in them.
#[derive(Default)]
pub(super) struct Windows(Mutex<State>);

#[derive(Default)]
struct State {
    queued: Vec<Queued>,
    /// Windows that did not open while something waited for them.
    missed: Vec<Window>,
    happened: Vec<Happened>,
    failure: Option<Failure>,
    is_inside: bool,
    /// What it is done to, while anything is queued: kept longer, it would keep itself alive.
    place: Option<(Database, SimDisk)>,
}

#[derive(Clone)]
struct Queued {
    window: Window,
    inside: Inside,
    target: Option<(Tree, TreeKey)>,
}

/// What was done in a window.
enum Happened {
    Written { begun_at: u64, key: TreeKey, value: Option<Bytes>, state: CommitState },
    Taken { slot: usize, snapshot: Snapshot },
    Durable { at: u64 },
}

impl Windows {
    /// The disk is about to run an operation.
    pub(super) fn see(&self, operation: &SimOperation<'_>) {
        let is = |name: &str| operation.path == Path::new(PATH).join(name);
        match operation.kind {
            OperationKind::Sync if is("pages") => self.open(Window::PageSync),
            OperationKind::Write if is("doublewrite") => self.open(Window::ImageWrite),
            OperationKind::Write if is("control") => self.open(Window::ControlWrite),
            _ => {}
        }
    }

    /// The engine has reached a point.
    #[cfg_attr(not(seawall_planted), expect(dead_code, reason = "no other build has points"))]
    fn reach(&self, point: Point) {
        let window = match point {
            Point::RegisteringSnapshot => Window::RegisteringSnapshot,
            Point::WorkingOutHorizon => Window::WorkingOutHorizon,
            Point::Validated => Window::Validated,
            Point::CellSeen => Window::CellSeen,
            // What is done there by one thread waits for itself.
            Point::ListingFrees | Point::Freeing => return,
        };
        self.open(window);
    }

    fn open(&self, window: Window) {
        let mut state = self.0.lock().expect("nothing panics under the lock");
        let is_due = |queued: &Queued| queued.window == window;
        if state.is_inside || !state.queued.iter().any(is_due) {
            return;
        }
        let (due, rest) = state.queued.iter().cloned().partition(is_due);
        state.queued = rest;
        let due: Vec<Queued> = due;
        let (database, disk) = state.place.clone().expect("something is queued");
        state.is_inside = true;
        drop(state);
        let mut happened = Vec::new();
        let done = due.iter().try_for_each(|queued| queued.run(&database, &disk, &mut happened));
        let mut state = self.0.lock().expect("nothing panics under the lock");
        state.is_inside = false;
        state.happened.extend(happened);
        state.failure = done.err().map(|why| why.at(format!("in window {window:?}")));
    }
}

impl Queued {
    fn run(&self, database: &Database, disk: &SimDisk, happened: &mut Vec<Happened>) -> Outcome {
        let begun_at = disk.operation_count();
        match self.inside {
            Inside::Insert(_, _, value) => {
                let (tree, key) = self.target.clone().expect("looked up when it was queued");
                let value = Bytes::from(value.make());
                let future = tree.insert_async(&*key.1, &*value)?;
                let lsn = future.lsn();
                let waited = future.wait();
                let state = match &waited {
                    Ok(_) => CommitState::Awaited { at: disk.operation_count(), lsn },
                    Err(_) => CommitState::Pending { lsn, is_sync: true },
                };
                happened.push(Happened::Written { begun_at, key, value: Some(value), state });
                waited?;
            }
            Inside::TakeSnapshot(slot) => {
                happened.push(Happened::Taken { slot, snapshot: database.snapshot()? });
            }
            Inside::TakeCheckpoint => {
                seawall::testing::take_checkpoint(database)?;
                happened.push(Happened::Durable { at: disk.operation_count() });
            }
            Inside::Collect => while seawall::testing::collect_step(database)? {},
        }
        Ok(())
    }
}

impl Session {
    /// Has something done when the window opens during the next operation.
    pub(super) fn queue(&mut self, window: Window, inside: Inside) -> Outcome<bool> {
        let target = match inside {
            Inside::Insert(tree, number, _) => {
                let Some(target) = self.target(tree, number)? else { return Ok(false) };
                Some(target)
            }
            _ => None,
        };
        let mut state = self.watchers.windows.0.lock().expect("nothing panics under the lock");
        state.queued.push(Queued { window, inside, target });
        state.place = Some((self.database.clone(), self.disk.clone()));
        #[cfg(seawall_planted)]
        {
            let windows = Arc::clone(&self.watchers.windows);
            let visitor = std::rc::Rc::new(move |point| windows.reach(point));
            seawall::planted::at_points(Some(visitor));
        }
        Ok(true)
    }

    /// An operation is over: nothing waits for its windows any more.
    pub(super) fn shut_windows(&mut self) {
        let mut state = self.watchers.windows.0.lock().expect("nothing panics under the lock");
        let missed: Vec<_> = state.queued.drain(..).map(|queued| queued.window).collect();
        state.missed.extend(missed);
        state.place = None;
        #[cfg(seawall_planted)]
        seawall::planted::at_points(None);
    }

    /// Takes over what was done in windows. Before what the operation around it has done is noted.
    pub(super) fn take_over(&mut self) -> Outcome {
        let windows = Arc::clone(&self.watchers.windows);
        let mut state = windows.0.lock().expect("nothing panics under the lock");
        let (happened, failure) = (std::mem::take(&mut state.happened), state.failure.take());
        drop(state);
        for happened in happened {
            match happened {
                Happened::Written { begun_at, key, value, state } => {
                    let writes = Writes::from([(key, value)]);
                    self.oracle.commit(begun_at, &writes, None, state);
                }
                Happened::Taken { slot, snapshot } => {
                    let forest = self.oracle.state(self.oracle.visible_at(snapshot.lsn())).clone();
                    let trees = self.trees.clone();
                    self.snapshots[slot] = Some(Taken { snapshot, forest, trees });
                }
                Happened::Durable { at } => self.oracle.is_durable(self.oracle.newest(), at),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Every window that something waits for has opened.
    ///
    /// # Errors
    /// When one has not: then what it is there for was not tried.
    pub fn check_windows(&self) -> Outcome {
        let state = self.watchers.windows.0.lock().expect("nothing panics under the lock");
        let missed = &state.missed;
        ensure!(missed.is_empty(), "windows that never opened: {missed:?}");
        Ok(())
    }
}
