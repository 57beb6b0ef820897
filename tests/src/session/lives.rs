//! Ends and beginnings of a database's life: closing, killing, backups.

use std::sync::Arc;

use super::{Session, see_with};
use crate::check::{read_all, verify};
use crate::ensure;
use crate::failure::Outcome;
use crate::operation::SLOTS;

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
    /// Those of [`seawall::Database::close`].
    pub fn close(&mut self) -> Outcome {
        let closed = self.database.clone().close();
        self.forget_handles();
        Ok(closed?)
    }

    fn forget_handles(&mut self) {
        self.open = [const { None }; SLOTS];
        self.snapshots = [const { None }; SLOTS];
        self.futures.clear();
        self.trees.clear();
    }

    pub(super) fn reopen(&mut self) -> Outcome {
        self.close()?;
        self.database = self.settings.open(&self.disk)?;
        ensure!(self.database.recovery_report().clean, "it was closed, and not clean");
        let newest = self.oracle.newest();
        self.oracle.cut_after(newest, self.disk.operation_count());
        self.compare_all()
    }

    pub(super) fn kill(&mut self) -> Outcome {
        let disk = self.disk.fork();
        let cut = disk.operation_count() + 1;
        // What is left of the old one must not be seen on the new disk, nor write anything.
        self.disk.set_monitor(Arc::new(|_| {}));
        seawall::testing::abandon(self.database.clone());
        see_with(&disk, &self.windows, &self.watch);
        let database = self.settings.open(&disk)?;
        let found = read_all(&database)?;
        let commit = self.oracle.survivor(cut, &found)?;
        self.oracle.cut_after(commit, disk.operation_count());
        self.forget_handles();
        self.database = database;
        self.disk = disk;
        self.compare_all()
    }
}
