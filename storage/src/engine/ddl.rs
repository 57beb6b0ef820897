//! Changes of the catalogue: creating, dropping and renaming trees, as part of a unit, and the
//! look-up of trees by name.
//!
//! What must hold:
//!
//! * P5: the root of a new tree is allocated by the record that writes its row, so after a crash it is
//!   linked or free.
//! * A name that a serializable unit looks for is read, found or not: what others do to it since is
//!   validated at the commit.
//! * The tree lock is never waited for: whoever finds it taken gets [`Error::Conflict`]. Only the
//!   collector's work on a leaf is, for a bounded time.
//!
//! A change writes two rows; the unit does both or none of it. The pages of a dropped tree are given
//! back by [`dismantle`](super::dismantle), after the commit.

use std::sync::Arc;

use seawall_wal::record::Cell;
use seawall_wal::{Error, Result, TreeId};

use super::Engine;
use super::auto_commit::Decision;
use super::read::{ReadAt, View};
use super::unit::Unit;
use crate::catalogue::row::{decode_name_value, encode_name_value, name_key, tree_key};
use crate::catalogue::{TreeInfo, TreeRow, TreeState};
use crate::limits::MAX_TREE_NAME_BYTES;
use crate::page::{NodeSpec, empty_leaf};
use crate::version::VersionKey;

/// Bound of a catalogue row's value.
const ROW_BYTES_MAX: usize = 32;

impl Engine {
    /// The tree of this name, as `view` sees the catalogue.
    pub(crate) fn find_tree(&self, name: &str, view: View<'_>) -> Result<Option<Arc<TreeInfo>>> {
        let Some(id) = self.find_tree_id(name, view)? else { return Ok(None) };
        if let Some(tree) = self.trees.get(id) {
            return Ok(Some(tree));
        }
        let mut value = Vec::new();
        let row = self.lookup(&self.catalogue, &tree_key(id), view, &mut value)?;
        if row.is_none() {
            return Err(self.damaged_catalogue(format!("a row of tree {id}, named {name}"), "none"));
        }
        let row = TreeRow::decode(&value)
            .map_err(|error| self.damaged_catalogue(error.expected, error.found))?;
        Ok(Some(self.trees.get_or_insert(id, row.root)))
    }

    fn find_tree_id(&self, name: &str, view: View<'_>) -> Result<Option<TreeId>> {
        let mut value = Vec::new();
        if self.lookup(&self.catalogue, &name_key(name), view, &mut value)?.is_none() {
            return Ok(None);
        }
        let id = decode_name_value(&value)
            .map_err(|error| self.damaged_catalogue(error.expected, error.found))?;
        Ok(Some(id))
    }

    fn damaged_catalogue(&self, expected: impl Into<String>, found: impl Into<String>) -> Error {
        self.corrupt_page(self.catalogue.root, expected, found)
    }

    /// The tree of this name as the unit sees it.
    pub(crate) fn unit_find_tree(
        &self,
        unit: &mut Unit,
        name: &str,
    ) -> Result<Option<Arc<TreeInfo>>> {
        check_name(name)?;
        if unit.is_serializable() {
            unit.reads.lock().add_point(VersionKey::new(TreeId::CATALOGUE, &name_key(name)));
        }
        let at: ReadAt<'_> = self.unit_view(unit);
        let found = self.find_tree(name, View::At(at))?;
        // Since the unit's snapshot: who runs it again finds none, or another one.
        if found.as_ref().is_some_and(|tree| tree.dropped_lsn().is_some()) {
            return Err(self.conflict());
        }
        Ok(found)
    }

    /// The tree of this name, created where it is missing.
    pub(crate) fn unit_open_tree(&self, unit: &mut Unit, name: &str) -> Result<Arc<TreeInfo>> {
        if let Some(tree) = self.unit_find_tree(unit, name)? {
            return Ok(tree);
        }
        self.unit_whole(unit, |unit| self.unit_create_tree(unit, name))
    }

    fn unit_create_tree(&self, unit: &mut Unit, name: &str) -> Result<Arc<TreeInfo>> {
        let id = self.trees.next_id();
        let catalogue = &self.catalogue;
        let name_value = encode_name_value(id);
        let put_name = |_: Option<Cell<'_>>| Decision::Put(&name_value[..]);
        self.unit_write(unit, catalogue, &name_key(name), ROW_BYTES_MAX, put_name)?;
        let image = |page| empty_leaf(self.page_bytes, &NodeSpec::root(page, id, 0));
        let root = self.linked_page(image, unit.slot())?;
        let row = TreeRow { state: TreeState::Live, root: root.id() }.encode();
        let put_row = |_: Option<Cell<'_>>| Decision::Put(&row[..]);
        self.unit_write_linking(
            unit,
            catalogue,
            &tree_key(id),
            ROW_BYTES_MAX,
            put_row,
            Some(&root),
        )?;
        let tree = self.trees.get_or_insert(id, root.id());
        unit.exclude(&tree)?;
        Ok(tree)
    }

    /// Drops the tree of this name when the unit commits. Returns whether there was one.
    pub(crate) fn unit_drop_tree(&self, unit: &mut Unit, name: &str) -> Result<bool> {
        let Some(tree) = self.unit_find_tree(unit, name)? else { return Ok(false) };
        unit.exclude(&tree)?;
        let catalogue = &self.catalogue;
        self.unit_whole(unit, |unit| {
            self.unit_write(unit, catalogue, &name_key(name), 0, |_| Decision::Delete)?;
            let row = TreeRow { state: TreeState::Dropping, root: tree.root }.encode();
            let put_row = |_: Option<Cell<'_>>| Decision::Put(&row[..]);
            self.unit_write(unit, catalogue, &tree_key(tree.id), ROW_BYTES_MAX, put_row)
        })?;
        unit.drop_at_commit(&tree);
        Ok(true)
    }

    /// Renames a tree. Returns whether there was one; a tree under the new name is an error.
    pub(crate) fn unit_rename_tree(&self, unit: &mut Unit, from: &str, to: &str) -> Result<bool> {
        check_name(to)?;
        let Some(tree) = self.unit_find_tree(unit, from)? else { return Ok(false) };
        if from == to {
            return Ok(true);
        }
        if self.unit_find_tree(unit, to)?.is_some() {
            let why = format!("a tree named {to} exists already");
            return Err(Error::InvalidArgument(why));
        }
        unit.exclude(&tree)?;
        let catalogue = &self.catalogue;
        let value = encode_name_value(tree.id);
        self.unit_whole(unit, |unit| {
            self.unit_write(unit, catalogue, &name_key(from), 0, |_| Decision::Delete)?;
            let put_name = |_: Option<Cell<'_>>| Decision::Put(&value[..]);
            self.unit_write(unit, catalogue, &name_key(to), ROW_BYTES_MAX, put_name)
        })?;
        Ok(true)
    }
}

/// Refuses names that no tree can have.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::InvalidArgument("the name of a tree is empty".into()));
    }
    if name.len() > MAX_TREE_NAME_BYTES {
        let why = format!(
            "the name of a tree has {} bytes; at most {MAX_TREE_NAME_BYTES} are allowed",
            name.len()
        );
        return Err(Error::InvalidArgument(why));
    }
    Ok(())
}
