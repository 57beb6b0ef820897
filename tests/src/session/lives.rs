//! Ends and beginnings of a database's life: closing, killing, backups.

use std::sync::Arc;

use seawall::Error;

use super::Session;
use crate::check::{read_all, verify};
use crate::ensure;
use crate::failure::Outcome;
use crate::operation::SLOTS;

/// What has become of a database's handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Open,
    /// It was shut down cleanly.
    Closed,
    /// Shutting it down, or opening it, was an error.
    Broken,
}

impl Session {
    /// A backup holds every commit that was durable when it was begun, and no open transaction.
    pub(super) fn back_up(&mut self) -> Outcome {
        self.backups += 1;
        let path = format!("/backup-{}", self.backups);
        let cut = self.disk.operation_count() + 1;
        self.database.backup(&path)?;
        let copy = self.settings.open_at(&self.disk, &path)?;
        let found = read_all(&copy)?;
        self.oracle.survivor(cut, &found).map_err(|why| why.at("the backup"))?;
        verify(&copy).map_err(|why| why.at("the backup"))?;
        copy.close()?;
        Ok(())
    }

    /// Closes the database; operations get `Closed` until it is opened again.
    ///
    /// # Errors
    /// Those of [`seawall::Database::close`]; `Closed` where that has been called before.
    pub fn close(&mut self) -> Outcome {
        if self.life != Life::Open {
            return Err(Error::Closed.into());
        }
        let closed = self.database.clone().close();
        self.life = if closed.is_ok() { Life::Closed } else { Life::Broken };
        self.forget_handles();
        closed?;
        self.replayed += self.watchers.replay.compare(&self.disk, &self.settings)?;
        Ok(())
    }

    fn forget_handles(&mut self) {
        self.open = [const { None }; SLOTS];
        self.snapshots = [const { None }; SLOTS];
        self.futures.clear();
        self.trees.clear();
    }

    pub(super) fn reopen(&mut self) -> Outcome {
        if self.life == Life::Open {
            self.close()?;
        }
        self.watchers.watch.begin_life();
        let cut = self.disk.operation_count() + 1;
        // Until it is open again: an open that fails may have begun an epoch.
        let before = std::mem::replace(&mut self.life, Life::Broken);
        let mut commit = self.oracle.newest();
        if before == Life::Broken {
            self.watchers.watch.begin_life_after_errors();
            self.database = self.settings.open(&self.disk)?;
            commit = self.oracle.survivor(cut, &read_all(&self.database)?)?;
        } else {
            self.database = self.settings.open(&self.disk)?;
            ensure!(self.database.recovery_report().clean, "it was closed, and not clean");
        }
        self.life = Life::Open;
        self.oracle.cut_after(commit, self.disk.operation_count());
        self.keep_again();
        self.compare_all()
    }

    /// The log of the life before is no use to the next one.
    fn keep_again(&self) {
        if self.watchers.replay.is_kept() {
            self.keep_old_copy();
        }
    }

    pub(super) fn kill(&mut self) -> Outcome {
        let disk = self.disk.fork();
        let cut = disk.operation_count() + 1;
        // What is left of the old one must not be seen on the new disk, nor write anything.
        self.disk.set_monitor(Arc::new(|_| {}));
        seawall::testing::abandon(self.database.clone());
        self.watchers.see(&disk);
        self.watchers.watch.begin_life();
        let database = self.settings.open(&disk)?;
        let found = read_all(&database)?;
        let commit = self.oracle.survivor(cut, &found)?;
        self.oracle.cut_after(commit, disk.operation_count());
        self.forget_handles();
        self.database = database;
        self.disk = disk;
        self.life = Life::Open;
        self.keep_again();
        self.compare_all()
    }
}
