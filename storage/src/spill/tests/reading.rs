//! What was appended is read back, in any order, and nothing else.

use seawall_wal::disk::BlockingDisk;
use seawall_wal::record::{Cell, Op, PageRef, WriteKind};
use seawall_wal::{PageId, TreeId};

use super::*;

#[test]
fn records_are_read_back_in_any_order() {
    let disk = new_disk();
    let records = mixed(200);
    let mark = filled(&disk, &records);
    let (last_lsn, _) = records.last().unwrap();
    assert_eq!(mark.spilled_upto, last_lsn.advance(1));
    assert_eq!(disk.read_file(&file_path()).unwrap().len(), to_usize(mark.length));
    check_holds(&disk, mark, &records).unwrap();
    let mut reader = open(&disk, mark.length).unwrap();
    records.iter().for_each(|record| assert_reads(&mut reader, record));
    let mut random = Random(5);
    for _ in 0..1000 {
        let index = to_usize(random.below(to_u64(records.len())));
        assert_reads(&mut reader, &records[index]);
    }
}

#[test]
fn a_record_of_the_engine_is_decodable_without_the_log() {
    let disk = new_disk();
    let value = [b'v'; 3000];
    let op = Op::Put {
        tree: TreeId::new(3),
        key: b"key",
        kind: WriteKind::Replace,
        after: Cell::inline(b"new"),
        before: Some(Cell::inline(&value)),
    };
    let page_ref = PageRef {
        page: PageId::new(9),
        page_prev_lsn: Lsn::new(800),
        is_init: false,
        ops: vec![op].into(),
    };
    let body = Body::Update { refs: vec![page_ref] };
    let mut encoder = RecordEncoder::new();
    let bytes = encoder.encode(TXN, Lsn::new(900), &body).bytes.to_vec();
    assert!(bytes.len() < 1000, "the body is compressed");
    let mark = filled(&disk, &vec![(Lsn::new(1000), bytes)]);
    let found = open(&disk, mark.length).unwrap().read(Lsn::new(1000)).unwrap();
    let raw = found.body().unwrap();
    let decoded = found.decode(&raw).unwrap();
    assert_eq!((decoded.txn, decoded.prev_lsn, decoded.body), (TXN, Lsn::new(900), body));
}

#[test]
fn a_position_without_a_record_is_corrupt() {
    let disk = new_disk();
    let records = mixed(40);
    let mark = filled(&disk, &records);
    let mut reader = open(&disk, mark.length).unwrap();
    for (lsn, bytes) in &records {
        for absent in [lsn.get() - 1, lsn.get() + 1, lsn.get() + to_u64(bytes.len()) - 1] {
            assert!(is_corrupt(&reader.read(Lsn::new(absent))), "{absent}");
        }
    }
    for absent in [Lsn::NONE, Lsn::new(1), mark.spilled_upto, Lsn::MAX] {
        assert!(is_corrupt(&reader.read(absent)), "{absent}");
    }
    assert_reads(&mut reader, &records[7]);
}

#[test]
fn a_file_without_records_is_one_block_long() {
    let disk = new_disk();
    let mark = filled(&disk, &Vec::new());
    assert_eq!(mark, SpillMark { spilled_upto: Lsn::NONE, length: BLOCK });
    check_holds(&disk, mark, &[]).unwrap();
    assert!(is_corrupt(&open(&disk, mark.length).unwrap().read(Lsn::new(5))));
    let records = small(3);
    let mut writer = resume(&disk, mark.length).unwrap();
    append(&mut writer, &records).unwrap();
    check_holds(&disk, writer.sync().unwrap(), &records).unwrap();
}

#[test]
fn every_sync_begins_a_new_block_and_one_without_records_does_nothing() {
    let disk = new_disk();
    let records = mixed(60);
    let mut writer = create(&disk).unwrap();
    assert_eq!(writer.mark(), SpillMark { spilled_upto: Lsn::NONE, length: 0 });
    let mut marks = Vec::new();
    for (index, (lsn, bytes)) in records.iter().enumerate() {
        writer.append(*lsn, bytes).unwrap();
        if index % 3 == 0 {
            let mark = writer.sync().unwrap();
            let operations = disk.operation_count();
            assert_eq!(writer.sync().unwrap(), mark);
            assert_eq!(writer.mark(), mark);
            assert_eq!(disk.operation_count(), operations);
            marks.push((mark, index + 1));
        }
    }
    for (mark, count) in marks {
        check_holds(&disk, mark, &records[..count]).unwrap();
    }
}

#[test]
fn a_reader_reads_below_its_mark_while_the_writer_goes_on() {
    let disk = new_disk();
    let records = small(3000);
    let (early, late) = records.split_at(1000);
    let mut writer = create(&disk).unwrap();
    append(&mut writer, early).unwrap();
    let mark = writer.sync().unwrap();
    let mut reader = open(&disk, mark.length).unwrap();
    for (appended, record) in late.iter().zip(early.iter().cycle()) {
        writer.append(appended.0, &appended.1).unwrap();
        assert_reads(&mut reader, record);
    }
    writer.sync().unwrap();
    assert!(is_corrupt(&reader.read(late[0].0)), "it lies behind the reader's mark");
    check_holds(&disk, mark, early).unwrap();
}

#[test]
fn files_on_a_file_system_are_read_back() {
    let parent = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(BlockingDisk::new());
    let records = mixed(100);
    let (early, late) = records.split_at(50);
    let mut writer = SpillWriter::create(&disk, parent.path(), DATABASE, TXN).unwrap();
    append(&mut writer, early).unwrap();
    let mark = writer.sync().unwrap();
    append(&mut writer, late).unwrap();
    drop(writer);
    let mut writer = SpillWriter::resume(&disk, parent.path(), DATABASE, TXN, mark.length).unwrap();
    append(&mut writer, late).unwrap();
    let mark = writer.sync().unwrap();
    assert_eq!(files(&*disk, parent.path()).unwrap(), [(TXN, mark.length)]);
    let mut reader = SpillReader::open(&*disk, parent.path(), DATABASE, TXN, mark.length).unwrap();
    records.iter().rev().for_each(|record| assert_reads(&mut reader, record));
    remove(&*disk, parent.path(), TXN).unwrap();
    assert_eq!(files(&*disk, parent.path()).unwrap(), []);
}

#[test]
#[should_panic(expected = "is appended behind")]
fn records_are_appended_in_order() {
    let disk = new_disk();
    let records = small(2);
    let mut writer = create(&disk).unwrap();
    append(&mut writer, &records).unwrap();
    append(&mut writer, &records[1..]).unwrap();
}

#[test]
#[should_panic(expected = "is not a whole record of transaction")]
fn a_record_of_another_transaction_is_refused() {
    let mut writer = create(&new_disk()).unwrap();
    writer.append(Lsn::new(8), &record(TxnId::new(1), 100, 0)).unwrap();
}
