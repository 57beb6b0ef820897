//! The lock on a database directory: `flock` against other processes, a registry against this one.
//!
//! `flock` belongs to the open file, so a second handle of this process is refused by the kernel as
//! well; the registry refuses it without a look at the holder's process id, which is our own.
//!
//! Who holds the lock decides nothing but how long a refused opener waits: the kernel releases the
//! lock of a killed process only when its last write in flight is done, so a lock whose holder is
//! dead is asked for again and again for [`DEAD_HOLDER_WAIT`]. The kernel's list of locks names the
//! holder. Where it does not (another system than Linux, a file system with device numbers of its
//! own, a process that is not seen from here), the process id counts that the last one who opened the
//! database for writing has left in the file.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock, major, minor};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::DirectoryLock;
use crate::sync::thread;

/// How long a lock whose holder is dead is asked for.
const DEAD_HOLDER_WAIT: Duration = Duration::from_secs(5);
/// Pause between two attempts. There is nothing to wait on instead: the system tells nobody when it
/// takes a lock from a dead process, and a call of `flock` that waits has no time limit. It is as long
/// as a few writes take, which is what the kernel is waiting for.
const RETRY_PAUSE: Duration = Duration::from_millis(4);
/// More digits than any process id has.
const PID_BYTES_MAX: usize = 20;

/// Device and inode of every lock file this process holds.
static HELD: Mutex<BTreeSet<FileKey>> = Mutex::new(BTreeSet::new());

fn held() -> MutexGuard<'static, BTreeSet<FileKey>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Device and inode.
type FileKey = (u64, u64);

/// A held lock.
#[derive(Debug)]
pub(super) struct FileLock {
    file: File,
    /// The process that took it: a forked child has the file too, but not the lock.
    owner: u32,
    // Dropped after `file` is unlocked, so that whoever finds the registry free finds the lock free.
    _claim: Claim,
}

impl DirectoryLock for FileLock {}

impl FileLock {
    /// Takes the lock, as [`super::Disk::lock`] says.
    pub(super) fn acquire(path: &Path) -> io::Result<Self> {
        let file =
            File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let lock = Self::take(file, DEAD_HOLDER_WAIT)?;
        lock.file.set_len(0)?;
        lock.file.write_all_at(format!("{}\n", lock.owner).as_bytes(), 0)?;
        Ok(lock)
    }

    /// Takes the lock, as [`super::Disk::lock_to_read`] says. The id of an earlier holder stays, so
    /// that an opener who is refused meanwhile may ask for a while.
    pub(super) fn acquire_to_read(path: &Path) -> io::Result<Self> {
        Self::take(File::open(path)?, DEAD_HOLDER_WAIT)
    }

    /// Refused at once while the holder lives, and after `dead_holder_wait` when it is dead.
    fn take(file: File, dead_holder_wait: Duration) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let claim = Claim::new((metadata.dev(), metadata.ino()))?;
        let deadline = Instant::now() + dead_holder_wait;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK)
                    if Instant::now() < deadline && holder_is_dead(&file, claim.0)? =>
                {
                    thread::sleep(RETRY_PAUSE);
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(Self { file, owner: process::id(), _claim: claim })
    }

    /// The locked file.
    #[cfg(all(target_os = "linux", feature = "io-uring"))]
    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        if self.owner == process::id() {
            // Closing the file releases it only when no forked child has it open. The unlock cannot
            // fail on an open file, and if it does, the close is what remains.
            flock(&self.file, FlockOperation::Unlock).ok();
        }
    }
}

/// Whether the process that holds the lock is gone.
fn holder_is_dead(file: &File, key: FileKey) -> io::Result<bool> {
    let own = rustix::process::getpid();
    let is_gone = |pid| test_kill_process(pid) == Err(Errno::SRCH) || is_zombie(pid);
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    // Our own id is that of a forked child: the registry knows that this process has no handle.
    if let Some(pid) = holder_in(&locks, key).filter(|pid| *pid != own) {
        return Ok(is_gone(pid));
    }
    let mut text = [0; PID_BYTES_MAX];
    let length = file.read_at(&mut text, 0)?;
    let pid = str::from_utf8(&text[..length]).ok().and_then(parse_pid);
    // Without an id the holder is about to write it; our own stands for a dead namesake.
    Ok(pid.is_some_and(|pid| pid == own || is_gone(pid)))
}

fn parse_pid(text: &str) -> Option<Pid> {
    text.trim().parse().ok().filter(|id| *id > 0).and_then(Pid::from_raw)
}

/// The holder of a file's lock in the kernel's list: `1: FLOCK ADVISORY WRITE 77 fd:00:1234 0 EOF`.
fn holder_in(locks: &str, (device, inode): FileKey) -> Option<Pid> {
    let place = format!("{:02x}:{:02x}:{inode}", major(device), minor(device));
    locks.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let is_of_file = fields.next() == Some("FLOCK");
        let pid = parse_pid(fields.nth(2)?);
        pid.filter(|_| is_of_file && fields.next() == Some(&place))
    })
}

/// Whether a process is dead and only waits for its parent to ask; signals still reach it.
fn is_zombie(pid: Pid) -> bool {
    // "pid (name) state ...", where the name may hold anything. Elsewhere than on Linux there is no
    // such file, and the holder counts as alive.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

/// An entry in [`HELD`], taken out when dropped.
#[derive(Debug)]
struct Claim(FileKey);

impl Claim {
    fn new(key: FileKey) -> io::Result<Self> {
        if held().insert(key) {
            Ok(Self(key))
        } else {
            Err(io::Error::new(io::ErrorKind::WouldBlock, "this process holds the lock already"))
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        held().remove(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io;
    use std::time::{Duration, Instant};

    use rustix::fs::{FlockOperation, flock};

    use rustix::process::Pid;

    use super::{DEAD_HOLDER_WAIT, FileLock, RETRY_PAUSE, holder_in};
    use crate::sync::thread;

    /// Locks the file behind the registry's back, as another process would.
    fn foreign_lock(path: &std::path::Path, pid: &str) -> File {
        std::fs::write(path, pid).unwrap();
        let file = File::open(path).unwrap();
        flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        file
    }

    #[test]
    fn holder_writes_its_process_id() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("LOCK");
        let lock = FileLock::acquire(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.trim(), std::process::id().to_string());
        drop(lock);
        drop(FileLock::acquire(&path).unwrap());
    }

    #[test]
    fn the_kernels_list_names_the_holder() {
        let locks = "1: POSIX  ADVISORY  WRITE 70 fd:01:55 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 71 fd:01:56 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 72 fd:01:55 0 EOF\n\
                     3: -> FLOCK  ADVISORY  WRITE 73 fd:01:55 0 EOF\n\
                     4: OFDLCK ADVISORY  READ -1 00:06:9 0 EOF\n\
                     5: FLOCK\n";
        let device = rustix::fs::makedev(0xfd, 1);
        assert_eq!(holder_in(locks, (device, 55)), Pid::from_raw(72));
        assert_eq!(holder_in(locks, (device, 56)), Pid::from_raw(71));
        for (device, inode) in [(device, 5), (rustix::fs::makedev(0, 6), 9)] {
            assert_eq!(holder_in(locks, (device, inode)), None);
        }
    }

    #[test]
    fn second_handle_of_this_process_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("LOCK");
        let lock = FileLock::acquire(&path).unwrap();
        let refused = FileLock::acquire(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        drop(FileLock::acquire(&path).unwrap());
    }

    #[test]
    fn lock_to_read_excludes_and_changes_no_byte() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("LOCK");
        let missing = FileLock::acquire_to_read(&path).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        std::fs::write(&path, "77\n").unwrap();
        let lock = FileLock::acquire_to_read(&path).unwrap();
        let refused = FileLock::acquire(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "77\n");
        let lock = FileLock::acquire(&path).unwrap();
        let refused = FileLock::acquire_to_read(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(lock);
    }

    #[test]
    fn living_holder_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("LOCK");
        let held = foreign_lock(&path, "1\n");
        let start = Instant::now();
        let refused = FileLock::acquire(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert!(start.elapsed() < DEAD_HOLDER_WAIT);
        drop(held);
        drop(FileLock::acquire(&path).unwrap());
    }

    /// An id that no process has: the largest there is.
    fn dead() -> String {
        i32::MAX.to_string()
    }

    #[test]
    fn lock_of_a_dead_holder_that_stays_held_is_refused_when_the_time_is_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("LOCK");
        let held = foreign_lock(&path, &dead());
        for wait in [Duration::ZERO, 3 * RETRY_PAUSE] {
            let start = Instant::now();
            let refused = FileLock::take(File::open(&path).unwrap(), wait).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
            assert!(start.elapsed() >= wait, "given up after {:?} of {wait:?}", start.elapsed());
        }
        assert_eq!(DEAD_HOLDER_WAIT, Duration::from_secs(5));
        drop(held);
        drop(FileLock::acquire(&path).unwrap());
    }

    #[test]
    fn lock_of_a_dead_holder_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("LOCK");
        let held = foreign_lock(&path, &dead());
        let waiter = thread::spawn({
            let path = path.clone();
            move || FileLock::acquire(&path).map(drop)
        });
        drop(held);
        waiter.join().unwrap().unwrap();
    }
}
