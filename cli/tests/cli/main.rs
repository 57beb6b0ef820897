//! The built command, end to end, each test on a database of its own.

#[cfg(test)]
mod backup;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod bench;
#[cfg(test)]
mod inspect;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod load_dump;
#[cfg(test)]
mod pairs;
#[cfg(test)]
mod salvage;
#[cfg(test)]
mod support;
