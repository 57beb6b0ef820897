//! The proof on real input: pairs that nobody made for it, loaded by a command that is killed.
//!
//! [`packages`] and [`documents`] collect the pairs, [`collection`] writes them in key order in the
//! canonical form of a dump. [`killed_load`] loads that file with `seawall load --resume`, and kills
//! it again and again. `tests/scripts/real_input.sh` runs all of it, lets the last load finish, and
//! wants the same bytes back from `seawall dump`.

pub mod collection;
pub mod documents;
pub mod killed_load;
pub mod packages;
