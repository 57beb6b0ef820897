//! The files of the folder, and their names.

use std::ffi::OsStr;

use super::*;

#[test]
fn files_of_unknown_transactions_are_removed_and_strangers_are_left_alone() {
    let disk = new_disk();
    assert_eq!(files(&disk, dir()).unwrap(), []);
    assert_eq!(remove_unknown(&disk, dir(), |_| false).unwrap(), 0);
    let ids = [7, 3, u64::MAX].map(TxnId::new);
    for txn in ids {
        let mut writer = SpillWriter::create(&shared(&disk), dir(), DATABASE, txn).unwrap();
        writer.append(Lsn::new(8), &record(txn, 100, 1)).unwrap();
        writer.sync().unwrap();
    }
    let strangers = ["readme", "0000000000000003.tmp", "000000000000000A", "0000000000000000", "3"];
    for name in strangers {
        disk.write_file(&folder(dir()).join(name), b"not ours");
    }
    let sizes = [3, 7, u64::MAX].map(|id| (TxnId::new(id), 2 * BLOCK));
    assert_eq!(files(&disk, dir()).unwrap(), sizes);
    assert_eq!(remove_unknown(&disk, dir(), |txn| txn == TxnId::new(7)).unwrap(), 2);
    assert_eq!(files(&disk, dir()).unwrap(), [(TxnId::new(7), 2 * BLOCK)]);
    remove(&disk, dir(), TxnId::new(7)).unwrap();
    remove(&disk, dir(), TxnId::new(7)).unwrap();
    assert_eq!(files(&disk, dir()).unwrap(), []);
    assert_eq!(disk.list(&folder(dir())).unwrap().len(), strangers.len());
}

#[test]
fn names_round_trip_and_sort_like_ids() {
    assert_eq!(path(dir(), TXN), Path::new("/db/undo/00000001000000f0"));
    for id in [1, 0xf0, u64::MAX].map(TxnId::new) {
        assert_eq!(parse_name(path(dir(), id).file_name().unwrap()), Some(id));
    }
    for name in ["", "+000000000000001", "1", "00000000000000g0", "00000000000000000"] {
        assert_eq!(parse_name(OsStr::new(name)), None, "{name}");
    }
}
