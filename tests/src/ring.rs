//! The ring disk, which not every system has: what a suite leaves out for want of it is told, and with
//! `SEAWALL_REQUIRE_URING` in the environment nothing may be left out.

use std::fmt::Display;

use crate::counts;

/// Says that nothing may be left out.
const REQUIRED: &str = "SEAWALL_REQUIRE_URING";

/// What `tried` to use the ring disk gave; `None`, and a line that names `what` is left out, where it
/// failed.
///
/// # Panics
/// Where it failed and nothing may be left out.
pub fn or_leave_out<T, E: Display>(what: &str, tried: Result<T, E>) -> Option<T> {
    match tried {
        Ok(value) => Some(value),
        Err(why) => {
            let is_required = std::env::var_os(REQUIRED).is_some();
            assert!(!is_required, "{what}: no io_uring here, and {REQUIRED} is set: {why}");
            counts::leave_out(what, &format!("no io_uring here ({why})"));
            None
        }
    }
}
