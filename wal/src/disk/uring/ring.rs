//! One ring, and the batches that run on it.
//!
//! The argument for the `unsafe` here. The kernel reads and writes the buffers of an entry from the
//! moment it is in the submission queue until its completion has been reaped, without the compiler's
//! knowledge. [`Ring::run`] borrows the batch, and with it every buffer and every file, for the whole
//! call, and it does not give the borrow back, by return or by unwinding, before each entry it put
//! into the queue has completed: the count of such entries lives in an [`InFlight`], whose drop waits
//! until it is zero. Between push and completion nothing here touches a buffer; only its address and
//! length are kept. So a pointer in the queue never outlives its buffer, and no reference overlaps
//! with the kernel's use. A ring whose `enter` fails for good waits for what the kernel has accepted
//! and is then dropped with the entries the kernel never saw (the kernel takes entries only inside
//! `enter`: there is no polling thread).
//!
//! Rules, each found by measuring: a sync is never linked to a write (a short write cancels a linked
//! sync, and a hard-linked one reports success); an entry refused with EAGAIN or EBUSY stays in the
//! queue; no IOPOLL.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use io_uring::{IoUring, opcode, squeue, types};
use rustix::io::Errno;

use crate::codec::{to_u64, to_usize};
use crate::disk::blocking::{BlockingFile, Direction, Progress};
use crate::disk::{DiskFile, Transfer, TransferKind};
use crate::sync::thread;

/// Entries in flight on one ring.
const DEPTH: u32 = 64;
/// Databases whose locks one ring can hold.
pub(super) const LOCKS_MAX: usize = 16;
/// Bytes of one entry; longer transfers take several, one after the other. The kernel's own bound is
/// a page below 2 GiB.
const ENTRY_BYTES_MAX: usize = 1 << 30;

/// One ring.
pub(super) struct Ring {
    ring: IoUring,
    is_broken: bool,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("is_broken", &self.is_broken).finish_non_exhaustive()
    }
}

impl Ring {
    /// A ring with these locks in its file table; -1 is an empty place.
    pub(super) fn new(locks: &[RawFd; LOCKS_MAX]) -> io::Result<Self> {
        let ring = IoUring::builder().dontfork().build(DEPTH)?;
        // Without this feature the kernel may drop completions, and a batch would wait for ever.
        if !ring.params().is_feature_nodrop() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        ring.submitter().register_files(locks)?;
        Ok(Self { ring, is_broken: false })
    }

    /// Sets a place of the file table.
    pub(super) fn set_lock(&mut self, slot: usize, lock: RawFd) -> io::Result<()> {
        let slot = u32::try_from(slot).map_err(|_too_large| io::ErrorKind::InvalidInput)?;
        match self.ring.submitter().register_files_update(slot, &[lock])? {
            0 => Err(io::ErrorKind::Other.into()),
            _one => Ok(()),
        }
    }

    /// Whether the kernel refused the ring for good; it must be dropped.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Runs a batch, sets the results, and returns the indexes of the transfers that are left to
    /// plain calls: what does not belong on a ring, and what the kernel would not run there.
    pub(super) fn run(&mut self, batch: &mut [Transfer<'_>]) -> Vec<usize> {
        let mut parts: Vec<_> = batch.iter_mut().map(Part::new).collect();
        let on_ring = parts
            .iter()
            .enumerate()
            .filter(|(_, part)| part.as_ref().is_some_and(|part| !part.is_done));
        let mut waiting: VecDeque<usize> = on_ring.map(|(index, _)| index).collect();

        let mut in_flight = InFlight { ring: self, count: 0 };
        while in_flight.count > 0 || !waiting.is_empty() {
            while in_flight.has_room()
                && let Some(index) = waiting.pop_front()
            {
                let part = parts[index].as_ref().expect("only transfers with a part wait");
                // SAFETY: the part borrows the transfer's file and buffer for longer than
                // `in_flight` lives, whose drop waits for the entry; nothing here touches the
                // buffer.
                unsafe { in_flight.push(&part.entry(index)) }
            }
            let goes_on = in_flight.enter();
            while let Some((index, outcome)) = in_flight.reap() {
                let part = parts[index].as_mut().expect("only transfers with a part are pushed");
                if part.complete(outcome) == Next::Again {
                    waiting.push_back(index);
                }
            }
            if !goes_on && in_flight.accepted() == 0 {
                break;
            }
        }
        drop(in_flight);

        let unfinished = |part: &Option<Part<'_>>| part.as_ref().is_none_or(|part| !part.is_done);
        let left = parts.iter().enumerate().filter(|(_, part)| unfinished(part));
        left.map(|(index, _)| index).collect()
    }
}

/// The entries that are in the queue or with the kernel. Dropping it waits for them.
struct InFlight<'r> {
    ring: &'r mut Ring,
    count: usize,
}

impl InFlight<'_> {
    fn has_room(&self) -> bool {
        !self.ring.is_broken && self.count < to_usize(u64::from(DEPTH))
    }

    /// Puts an entry into the queue.
    ///
    /// # Safety
    /// The entry's descriptor stays open, and its buffer valid and untouched, until this entry is
    /// reaped or `self` is dropped.
    unsafe fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: what the caller promises is what the queue asks for.
        let pushed = unsafe { self.ring.ring.submission().push(entry) };
        pushed.expect("the queue has as many places as entries may be in flight");
        self.count += 1;
    }

    /// Hands the queue to the kernel and waits for a completion. False when the kernel refuses the
    /// ring for good: then nothing is handed over any more, and what the kernel has goes on.
    fn enter(&mut self) -> bool {
        if self.ring.is_broken {
            thread::yield_now();
            return false;
        }
        let Err(error) = self.ring.ring.submit_and_wait(1) else { return true };
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::INTR) => true,
            // Short of memory, or of room for completions: what is queued stays queued.
            Some(Errno::AGAIN | Errno::BUSY) => {
                thread::yield_now();
                true
            }
            _ => {
                self.ring.is_broken = true;
                false
            }
        }
    }

    /// Takes a completion: the entry's index, and the count of bytes or the error.
    fn reap(&mut self) -> Option<(usize, Result<usize, Errno>)> {
        let completion = self.ring.ring.completion().next()?;
        self.count -= 1;
        let result = completion.result();
        let outcome = usize::try_from(result)
            .map_err(|_negative| Errno::from_raw_os_error(result.wrapping_neg()));
        Some((to_usize(completion.user_data()), outcome))
    }

    /// Entries that the kernel has; the others are only in the queue.
    fn accepted(&mut self) -> usize {
        self.count - self.ring.ring.submission().len()
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        // Nothing to do but on the way out of a panic, or after the kernel refused the ring.
        while self.count > 0 {
            let goes_on = self.enter();
            while self.reap().is_some() {}
            if !goes_on && self.accepted() == 0 {
                break;
            }
        }
    }
}

/// What follows a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Nothing: the result is set, or a plain call follows.
    Nothing,
    /// Another entry, for the rest.
    Again,
}

/// A transfer on its way through the ring.
struct Part<'a> {
    file: &'a BlockingFile,
    offset: u64,
    /// Start of the buffer, which the batch borrows for `'a`. Written through only by the kernel, and
    /// only where this is a read.
    start: *mut u8,
    len: usize,
    direction: Direction,
    /// Bytes transferred.
    done: usize,
    /// Whether `result` is final.
    is_done: bool,
    result: &'a mut io::Result<()>,
}

impl<'a> Part<'a> {
    /// `None` for a file of another disk, and for what a plain call does faster: a write through
    /// the page cache.
    fn new(transfer: &'a mut Transfer<'_>) -> Option<Self> {
        let file: &BlockingFile = transfer.file.as_any().downcast_ref()?;
        if !file.is_direct() && matches!(transfer.kind, TransferKind::Write(_)) {
            return None;
        }
        let (start, len, direction) = match &mut transfer.kind {
            TransferKind::Read(buf) => {
                file.check(buf, transfer.offset);
                (buf.as_mut_ptr(), buf.len(), Direction::Read)
            }
            TransferKind::Write(buf) => {
                file.check(buf, transfer.offset);
                (buf.as_ptr().cast_mut(), buf.len(), Direction::Write)
            }
        };
        let result = &mut transfer.result;
        *result = Ok(());
        // Nothing to transfer is nothing to ask the kernel for.
        Some(Self {
            file,
            offset: transfer.offset,
            start,
            len,
            direction,
            done: 0,
            is_done: len == 0,
            result,
        })
    }

    /// The entry for what is not transferred yet.
    fn entry(&self, index: usize) -> squeue::Entry {
        let descriptor = types::Fd(self.file.file().as_raw_fd());
        let start = self.start.wrapping_add(self.done);
        let len = u32::try_from((self.len - self.done).min(ENTRY_BYTES_MAX))
            .expect("the bound of an entry fits");
        let offset = self.offset + to_u64(self.done);
        let entry = match self.direction {
            Direction::Read => opcode::Read::new(descriptor, start, len).offset(offset).build(),
            Direction::Write => opcode::Write::new(descriptor, start, len).offset(offset).build(),
        };
        entry.user_data(to_u64(index))
    }

    fn complete(&mut self, outcome: Result<usize, Errno>) -> Next {
        match outcome {
            Ok(count) => match self.file.progress(self.direction, self.len, self.done, count) {
                Progress::Whole => self.finish(Ok(())),
                Progress::More(done) => {
                    self.done = done;
                    Next::Again
                }
                Progress::Stuck => self.finish(Err(self.direction.stuck().into())),
            },
            Err(Errno::INTR) => Next::Again,
            // Nothing was tried: the plain call tells what there is to tell.
            Err(Errno::AGAIN | Errno::CANCELED | Errno::INVAL | Errno::OPNOTSUPP) => Next::Nothing,
            Err(errno) => self.finish(Err(errno.into())),
        }
    }

    fn finish(&mut self, result: io::Result<()>) -> Next {
        *self.result = result;
        self.is_done = true;
        Next::Nothing
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;
    use std::path::Path;

    use io_uring::opcode;
    use rustix::fs::{FlockOperation, flock};

    use super::{DEPTH, Errno, InFlight, LOCKS_MAX, Part, Ring, to_u64, to_usize};
    use crate::disk::{
        Access, AlignedBuf, BLOCK_BYTES, BlockingDisk, Disk, DiskFile, OpenMode, SimDisk, Transfer,
    };
    use crate::sync::thread;

    /// `None` where the kernel or a sandbox forbids io_uring, and there is nothing to test.
    fn ring() -> Option<Ring> {
        Ring::new(&[-1; LOCKS_MAX]).ok()
    }

    fn file_of(disk: &dyn Disk, path: &Path, blocks: usize) -> std::sync::Arc<dyn DiskFile> {
        let file = disk.open(path, OpenMode::Create, Access::Direct).unwrap();
        let mut block = AlignedBuf::new(BLOCK_BYTES);
        block.fill(7);
        for index in 0..blocks {
            file.write_at(&block, to_u64(index * BLOCK_BYTES)).unwrap();
        }
        file
    }

    #[test]
    fn batch_deeper_than_the_queue_is_run_whole() {
        let Some(mut ring) = ring() else { return };
        let directory = tempfile::tempdir().unwrap();
        let blocks = to_usize(u64::from(DEPTH)) * 3 + 1;
        let file = file_of(&BlockingDisk::new(), &directory.path().join("file"), blocks);
        let mut found = AlignedBuf::new(blocks * BLOCK_BYTES);
        let parts = found.chunks_mut(BLOCK_BYTES).enumerate();
        let mut batch: Vec<_> = parts
            .map(|(index, buf)| Transfer::read(&*file, to_u64(index * BLOCK_BYTES), buf))
            .collect();
        assert!(ring.run(&mut batch).is_empty());
        assert!(batch.iter().all(|transfer| transfer.result.is_ok()));
        drop(batch);
        assert!(found.iter().all(|&byte| byte == 7));
    }

    #[test]
    fn short_read_at_the_end_is_unexpected_eof() {
        let Some(mut ring) = ring() else { return };
        let directory = tempfile::tempdir().unwrap();
        let file = file_of(&BlockingDisk::new(), &directory.path().join("file"), 3);
        file.set_len(to_u64(BLOCK_BYTES) + 100).unwrap();
        let mut buf = AlignedBuf::new(3 * BLOCK_BYTES);
        let mut batch = [Transfer::read(&*file, 0, &mut buf)];
        assert!(ring.run(&mut batch).is_empty());
        let error = batch[0].result.as_ref().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn other_files_and_buffered_writes_are_left_to_plain_calls() {
        let Some(mut ring) = ring() else { return };
        let directory = tempfile::tempdir().unwrap();
        let sim = SimDisk::new();
        let other = file_of(&sim, Path::new("/file"), 1);
        let path = directory.path().join("file");
        let buffered = BlockingDisk::new().open(&path, OpenMode::Create, Access::Buffered).unwrap();
        buffered.write_at(b"cached", 0).unwrap();
        let (mut block, mut cached) = (AlignedBuf::new(BLOCK_BYTES), [0; 6]);
        let mut batch = [
            Transfer::read(&*other, 0, &mut block),
            Transfer::write(&*buffered, 0, b"plain"),
            Transfer::read(&*buffered, 0, &mut cached),
            Transfer::read(&*buffered, 100, &mut []),
        ];
        assert_eq!(ring.run(&mut batch), [0, 1]);
        assert_eq!(&cached, b"cached");
    }

    #[test]
    fn broken_ring_leaves_every_transfer_and_loses_none() {
        let Some(mut ring) = ring() else { return };
        let directory = tempfile::tempdir().unwrap();
        let file = file_of(&BlockingDisk::new(), &directory.path().join("file"), 2);
        let mut bufs = [AlignedBuf::new(BLOCK_BYTES), AlignedBuf::new(BLOCK_BYTES)];
        ring.is_broken = true;
        let mut batch: Vec<_> = bufs.iter_mut().map(|buf| Transfer::read(&*file, 0, buf)).collect();
        assert_eq!(ring.run(&mut batch), [0, 1]);
    }

    #[test]
    fn unwinding_waits_for_what_is_in_flight() {
        let Some(mut ring) = ring() else { return };
        let directory = tempfile::tempdir().unwrap();
        let file = file_of(&BlockingDisk::new(), &directory.path().join("file"), 1);
        let mut buf = AlignedBuf::new(BLOCK_BYTES);
        let mut transfer = Transfer::read(&*file, 0, &mut buf);
        let part = Part::new(&mut transfer).unwrap();
        let mut in_flight = InFlight { ring: &mut ring, count: 0 };
        // SAFETY: file and buffer outlive `in_flight`, and nothing touches the buffer meanwhile.
        unsafe { in_flight.push(&part.entry(0)) }
        drop(in_flight);
        assert_eq!(ring.ring.submission().len(), 0);
        assert!(buf.iter().all(|&byte| byte == 7));
    }

    #[test]
    fn error_of_the_kernel_is_the_result() {
        let Some(mut ring) = ring() else { return };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let disk = BlockingDisk::new();
        drop(file_of(&disk, &path, 1));
        let read_only = disk.open(&path, OpenMode::ReadOnly, Access::Direct).unwrap();
        let block = AlignedBuf::new(BLOCK_BYTES);
        let mut batch = [Transfer::write(&*read_only, 0, &block)];
        assert!(ring.run(&mut batch).is_empty());
        let error = batch[0].result.as_ref().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::BADF.raw_os_error()));
    }

    #[test]
    fn ring_holds_the_lock_of_a_file_that_is_closed() {
        let Some(mut ring) = ring() else { return };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("LOCK");
        let held = File::create(&path).unwrap();
        flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
        ring.set_lock(3, held.as_raw_fd()).unwrap();
        drop(held);

        let second = File::open(&path).unwrap();
        assert!(flock(&second, FlockOperation::NonBlockingLockExclusive).is_err());
        // The kernel takes a ring down in the background.
        drop(ring);
        while flock(&second, FlockOperation::NonBlockingLockExclusive).is_err() {
            thread::yield_now();
        }
    }

    #[test]
    fn lock_outside_the_table_is_refused() {
        let Some(mut ring) = ring() else { return };
        let file = tempfile::tempfile().unwrap();
        assert!(ring.set_lock(LOCKS_MAX, file.as_raw_fd()).is_err());
    }

    #[test]
    fn entries_in_flight_are_bounded_by_the_queue() {
        let Some(mut ring) = ring() else { return };
        let mut in_flight = InFlight { ring: &mut ring, count: 0 };
        while in_flight.has_room() {
            // SAFETY: a no-op has neither descriptor nor buffer.
            unsafe { in_flight.push(&opcode::Nop::new().build().user_data(1)) }
        }
        assert_eq!(in_flight.count, to_usize(u64::from(DEPTH)));
    }
}
