//! Runs the built binary on a database in a directory of its own.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A directory, and a database in it that may not be there yet.
pub(crate) struct Place {
    dir: TempDir,
}

/// What a run of the command gave.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Run {
    fn of(output: Output) -> Self {
        let stderr = String::from_utf8(output.stderr).unwrap();
        Self { code: output.status.code(), stdout: output.stdout, stderr }
    }

    /// The results of a run that must have succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Vec<u8> {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout
    }

    /// The results of a run that must have succeeded, as text.
    #[track_caller]
    pub(crate) fn text(self) -> String {
        String::from_utf8(self.ok()).unwrap()
    }

    /// The message of a run that must have ended with `code`.
    #[track_caller]
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        self.stderr
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// The database's directory.
    pub(crate) fn database(&self) -> PathBuf {
        self.path("db")
    }

    /// A path beside the database.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file beside the database.
    pub(crate) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// `seawall COMMAND DB ARGUMENTS..`, not yet run.
    pub(crate) fn command(&self, command: &str, arguments: &[&str]) -> Command {
        let mut process = binary();
        process.arg(command).arg(self.database()).args(arguments);
        process
    }

    /// Runs `seawall COMMAND DB ARGUMENTS..`.
    pub(crate) fn run(&self, command: &str, arguments: &[&str]) -> Run {
        run(&mut self.command(command, arguments))
    }

    /// Runs `seawall COMMAND DB ARGUMENTS..` where the database's path is relative.
    pub(crate) fn run_beside(&self, command: &str, arguments: &[&str]) -> Run {
        run(binary().current_dir(self.dir.path()).args([command, "db"]).args(arguments))
    }

    /// Runs `seawall log WHAT DB ARGUMENTS..`.
    pub(crate) fn run_log(&self, what: &str, arguments: &[&str]) -> Run {
        run(binary().args(["log", what]).arg(self.database()).args(arguments))
    }

    /// `seawall COMMAND DB ARGUMENTS..` with bytes on stdin.
    pub(crate) fn run_with_stdin(&self, command: &str, arguments: &[&str], stdin: &[u8]) -> Run {
        let mut process = self.command(command, arguments);
        process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = process.spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin).unwrap();
        Run::of(child.wait_with_output().unwrap())
    }
}

/// The built command without arguments.
pub(crate) fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_seawall"))
}

/// Runs a command to its end.
pub(crate) fn run(process: &mut Command) -> Run {
    Run::of(process.stdin(Stdio::null()).output().unwrap())
}

/// An argument that is a path.
pub(crate) fn argument(path: &Path) -> &str {
    OsStr::to_str(path.as_os_str()).unwrap()
}
