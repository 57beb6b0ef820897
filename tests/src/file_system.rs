//! File systems of our own, in images on loop devices, whose power can be cut and whose space runs
//! out.
//!
//! The power cut is the file system's own: its shutdown call (`FS_IOC_SHUTDOWN`, by `xfs_io`) lets no
//! write through any more, and what has not been written then is gone. Mounting again is the start
//! after it. That takes root, loop devices and the tools of the file system; where they are missing,
//! whoever asks is told, and leaves the test out.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate, fsync, ftruncate};
use rustix::io::Errno;
use rustix::process::geteuid;
use tempfile::TempDir;

use crate::counts;
use crate::failure::{Failure, Outcome};

/// How long a killed process's rings may keep their files open.
const RINGS_CLOSE: Duration = Duration::from_secs(10);
/// A ballast takes the space in steps, each half as long as the one before that found no room.
const BALLAST_STEP_BYTES_MAX: u64 = 64 << 20;
/// The last of them.
const BALLAST_STEP_BYTES_MIN: u64 = 4 << 10;

/// A file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// ext4.
    Ext4,
    /// XFS.
    Xfs,
}

impl FileSystem {
    /// The smallest image that its tool makes, generously, in bytes.
    const fn image_bytes_min(self) -> u64 {
        match self {
            Self::Ext4 => 16 << 20,
            Self::Xfs => 320 << 20,
        }
    }

    fn make_command(self) -> Command {
        let mut command = match self {
            Self::Ext4 => Command::new("mkfs.ext4"),
            Self::Xfs => Command::new("mkfs.xfs"),
        };
        command.arg("-q");
        if self == Self::Ext4 {
            // No room that root alone may use, so that full means full.
            command.args(["-F", "-m", "0"]);
        }
        command
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "XFS",
        })
    }
}

/// A mounted image; unmounted and removed when it is dropped.
#[derive(Debug)]
pub struct LoopMount {
    folder: TempDir,
}

impl LoopMount {
    /// Makes an image of at least `bytes` and mounts it. `None`, with a line on standard error that
    /// says what is left out, where this machine does not let us.
    ///
    /// # Errors
    /// When making a folder for it fails.
    pub fn new(kind: FileSystem, bytes: u64) -> Outcome<Option<Self>> {
        let folder = tempfile::tempdir().map_err(|error| failed("a folder", error))?;
        let mount = Self { folder };
        match mount.make(kind, bytes.max(kind.image_bytes_min())) {
            Ok(()) => Ok(Some(mount)),
            Err(why) => {
                counts::leave_out(&format!("{kind} on a loop device"), &why);
                Ok(None)
            }
        }
    }

    fn make(&self, kind: FileSystem, bytes: u64) -> Outcome {
        if !geteuid().is_root() {
            return Err(Failure::new("only root may mount"));
        }
        // Without the tool that cuts the power nothing here is worth mounting.
        run(Command::new("xfs_io").arg("-V"))?;
        let image = File::create(self.image()).map_err(|error| failed("the image", error))?;
        image.set_len(bytes).map_err(|error| failed("the image", error))?;
        run(kind.make_command().arg(self.image()))?;
        std::fs::create_dir(self.path()).map_err(|error| failed("the folder", error))?;
        self.mount()
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    /// Its root.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    /// Cuts its power. What only the journal's memory knows is written first, or lost.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn cut_power(&self, is_journal_written: bool) -> Outcome {
        let how = if is_journal_written { "shutdown -f" } else { "shutdown" };
        run(Command::new("xfs_io").args(["-x", "-c", how]).arg(self.path()))
    }

    /// Starts again after a power cut: mounts it anew, when nobody has a file open there any more.
    ///
    /// # Errors
    /// When the file system is in use, or does not come up.
    pub fn restart(&self) -> Outcome {
        // The kernel closes the rings of a killed process a little after the process is gone.
        let end = Instant::now() + RINGS_CLOSE;
        while let Err(why) = run(Command::new("umount").arg(self.path())) {
            if Instant::now() >= end {
                return Err(why);
            }
        }
        self.mount()
    }

    fn mount(&self) -> Outcome {
        run(Command::new("mount").args(["-o", "loop"]).arg(self.image()).arg(self.path()))
    }

    /// Fills it up but for `left` bytes.
    ///
    /// # Errors
    /// When something else than a full disk stops it.
    pub fn fill(&self, left: u64) -> Outcome {
        let io = |error: Errno| failed("the ballast", error.into());
        let mode = Mode::RUSR | Mode::WUSR;
        let flags = OFlags::WRONLY | OFlags::CREATE;
        let ballast = rustix::fs::open(self.ballast(), flags, mode).map_err(io)?;
        let (mut length, mut step) = (0, BALLAST_STEP_BYTES_MAX);
        while step >= BALLAST_STEP_BYTES_MIN {
            match fallocate(&ballast, FallocateFlags::empty(), length, step) {
                Ok(()) => length += step,
                Err(Errno::NOSPC) => step /= 2,
                Err(error) => return Err(io(error)),
            }
        }
        ftruncate(&ballast, length.saturating_sub(left)).map_err(io)?;
        fsync(&ballast).map_err(io)
    }

    /// Gives the space back that [`Self::fill`] has taken.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn free(&self) -> Outcome {
        // XFS gives back what a removed file has in its own time; what is cut off a file, at once.
        let ballast = File::options().write(true).open(self.ballast());
        let cut = ballast.and_then(|file| file.set_len(0).and_then(|()| file.sync_all()));
        cut.map_err(|error| failed("the ballast", error))?;
        std::fs::remove_file(self.ballast()).map_err(|error| failed("the ballast", error))?;
        let root = File::open(self.path()).map_err(|error| failed("the folder", error))?;
        root.sync_all().map_err(|error| failed("the folder", error))
    }

    /// Makes everything durable that is there.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn sync(&self) -> Outcome {
        let root = File::open(self.path()).map_err(|error| failed("the folder", error))?;
        rustix::fs::syncfs(&root).map_err(|error| failed("the file system", error.into()))
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }
}

impl Drop for LoopMount {
    fn drop(&mut self) {
        if is_mounted(&self.path()) && run(Command::new("umount").arg(self.path())).is_err() {
            // A test that failed may have left files open: it goes when they are closed.
            drop(run(Command::new("umount").arg("--lazy").arg(self.path())));
        }
    }
}

/// A mount point lies on another device than the folder that holds it.
fn is_mounted(path: &Path) -> bool {
    let device = |path: &Path| rustix::fs::stat(path).map(|stat| stat.st_dev);
    let parent = path.parent().unwrap_or(path);
    matches!((device(path), device(parent)), (Ok(own), Ok(parents)) if own != parents)
}

/// Runs a command that says nothing where all is well.
fn run(command: &mut Command) -> Outcome {
    let told = command.stdin(Stdio::null()).output();
    let told = told.map_err(|error| failed(&format!("{:?}", command.get_program()), error))?;
    if told.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&told.stderr);
    Err(Failure::new(format!("{:?}: {}", command.get_program(), said.trim())))
}

fn failed(what: &str, error: io::Error) -> Failure {
    Failure::new(format!("{what}: {error}"))
}
