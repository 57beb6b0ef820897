//! What the system says about this process: memory and processor time. Only Linux is asked; elsewhere
//! INFO has no such lines.

use std::fs;

/// Ticks of a second in `/proc`, the same on every architecture that there is.
const TICKS_PER_SECOND: u64 = 100;

/// Processor time, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CpuTime {
    pub(crate) user_us: u64,
    pub(crate) system_us: u64,
    pub(crate) user_children_us: u64,
    pub(crate) system_children_us: u64,
}

pub(crate) fn cpu_time() -> Option<CpuTime> {
    parse_cpu_time(&fs::read_to_string("/proc/self/stat").ok()?)
}

fn parse_cpu_time(stat: &str) -> Option<CpuTime> {
    // The name of the program, in brackets, may contain anything, brackets and blanks too.
    let (_, fields) = stat.rsplit_once(')')?;
    // Fields are counted from one; the first behind the name is the third.
    let mut times = fields.split_ascii_whitespace().skip(14 - 3);
    let mut next = || {
        let ticks: u64 = times.next()?.parse().ok()?;
        ticks.checked_mul(1_000_000 / TICKS_PER_SECOND)
    };
    Some(CpuTime {
        user_us: next()?,
        system_us: next()?,
        user_children_us: next()?,
        system_children_us: next()?,
    })
}

/// Memory of the process that is in the machine's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) resident_bytes: u64,
    pub(crate) resident_bytes_max: u64,
}

pub(crate) fn memory() -> Option<Memory> {
    parse_memory(&fs::read_to_string("/proc/self/status").ok()?)
}

fn parse_memory(status: &str) -> Option<Memory> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    };
    Some(Memory { resident_bytes: field("VmRSS:")?, resident_bytes_max: field("VmHWM:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stand_behind_a_name_that_may_look_like_fields() {
        let stat = "7 (a) 1 (b) S 1 2 3 4 5 6 7 8 9 10 150 25 3 4 20 0";
        let time = parse_cpu_time(stat).unwrap();
        assert_eq!((time.user_us, time.system_us), (1_500_000, 250_000));
        assert_eq!((time.user_children_us, time.system_children_us), (30_000, 40_000));
        assert_eq!(parse_cpu_time("7 (a) S 1 2"), None);
    }

    #[test]
    fn memory_is_told_in_bytes() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        let memory = parse_memory(status).unwrap();
        assert_eq!((memory.resident_bytes, memory.resident_bytes_max), (1 << 20, 2 << 20));
        assert_eq!(parse_memory("VmRSS:\t1 kB\n"), None);
    }
}
