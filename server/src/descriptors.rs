//! How many files the process may have open at once. Connections must not use them up: a segment of the log
//! that finds none is taken for a full disk.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are not for clients: files of the database, listeners, rings.
const OTHERS: u64 = 128;

/// Raises the bound as far as the process may, and returns how many clients fit below it.
pub(crate) fn clients_possible() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    let now = if setrlimit(Resource::Nofile, raised).is_ok() { raised } else { limit };
    now.current.map_or(u64::MAX, clients_below)
}

fn clients_below(descriptors: u64) -> u64 {
    descriptors.saturating_sub(OTHERS).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_descriptors_to_the_database() {
        assert_eq!([1024, 129, 128, 20].map(clients_below), [896, 1, 1, 1]);
        let possible = clients_possible();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum, "it was raised");
        assert_eq!(possible, limit.current.map_or(u64::MAX, clients_below));
    }
}
