//! What a copy says about itself, for people and for later increments: the file `manifest`.
//!
//! Lines of words, each ended by a line break:
//!
//! | line | meaning |
//! |---|---|
//! | `seawall-backup 1` | version of this format |
//! | `database` ID | hexadecimal |
//! | `page_bytes` N | |
//! | `epoch` N `nonce` X | the epoch that wrote the end of the copied log; nonce in hexadecimal |
//! | `start_lsn` N | the copied log begins at or below |
//! | `checkpoint_lsn` N | begin record of the checkpoint that `control` names |
//! | `min_consistent_lsn` N | end of the copied log: everything up to here is in the copy |
//! | `file` BYTES CRC NAME | each copied file; CRC-32C in hexadecimal, name relative to the copy |
//! | `checksum` CRC | CRC-32C of all lines above |

use std::fmt::Write;

use seawall_wal::Lsn;
use seawall_wal::control::{ControlState, MasterRecord};

use super::target::CopiedFile;

/// What the manifest tells.
pub(super) struct Manifest<'m> {
    pub(super) state: &'m ControlState,
    pub(super) master: &'m MasterRecord,
    pub(super) end_lsn: Lsn,
    pub(super) files: &'m [CopiedFile],
}

impl Manifest<'_> {
    pub(super) fn encode(&self) -> String {
        let (identity, epoch) = (&self.state.identity, self.state.last_epoch());
        let mut text = String::from("seawall-backup 1\n");
        let mut line = |line: std::fmt::Arguments<'_>| {
            text.write_fmt(line).and_then(|()| text.write_char('\n')).expect("a string takes all");
        };
        line(format_args!("database {}", identity.database));
        line(format_args!("page_bytes {}", identity.page_bytes));
        line(format_args!("epoch {} nonce {:016x}", epoch.epoch, epoch.nonce.get()));
        line(format_args!("start_lsn {}", self.master.start_lsn()));
        line(format_args!("checkpoint_lsn {}", self.master.begin_lsn));
        line(format_args!("min_consistent_lsn {}", self.end_lsn));
        for CopiedFile { name, bytes, checksum } in self.files {
            line(format_args!("file {bytes} {checksum:08x} {name}"));
        }
        let checksum = crc32c::crc32c(text.as_bytes());
        text + &format!("checksum {checksum:08x}\n")
    }
}
