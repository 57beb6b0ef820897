//! Where a fuzzer starts: what real databases contain, a few of each kind.

use std::collections::BTreeMap;
use std::path::Path;

use seawall::page::PageView;
use seawall_cli::bytes::show;
use seawall_cli::format::Format;
use seawall_wal::codec::{to_u64, to_usize};
use seawall_wal::control::Control;
use seawall_wal::disk::SimDisk;
use seawall_wal::log::frame::{FRAME_HEADER_BYTES, FrameHeader, Records};
use seawall_wal::record::{Body, body_bytes, decode, header};

use super::{checkpoint, control, doublewrite, formats, frame, page, record};
use crate::failure::Outcome;
use crate::operation::{Operation, ValueSpec, key};
use crate::random::Random;
use crate::scenario::Scenario;
use crate::session::Session;
use crate::settings::{PATH, Settings};

/// Of things that look alike so many are kept.
const ALIKE_MAX: usize = 2;
/// Inputs of operations and of changes.
const DRAWN: u64 = 16;
const PAGE_BYTES: usize = 4096;
const BLOCK_BYTES: usize = 4096;
/// Names of operations on pages; none begins like another one in front of it.
const OPS: [&str; 10] = [
    "Image",
    "Put",
    "RemoveChild",
    "Remove",
    "Settle",
    "SplitOff",
    "Absorb",
    "InsertChild",
    "Allocate",
    "Release",
];
/// Inputs are no longer than this.
const INPUT_BYTES_MAX: usize = 7000;

/// Inputs of each target, by its name.
pub type Seeds = BTreeMap<&'static str, Vec<Vec<u8>>>;

/// Inputs, by what they look like.
#[derive(Default)]
struct Gathered(BTreeMap<(&'static str, u64), Vec<Vec<u8>>>);

impl Gathered {
    fn add(&mut self, target: &'static str, looks: u64, input: Vec<u8>) {
        let alike = self.0.entry((target, looks)).or_default();
        if alike.len() < ALIKE_MAX && input.len() <= INPUT_BYTES_MAX && !alike.contains(&input) {
            alike.push(input);
        }
    }
}

/// Makes them.
///
/// # Errors
/// When a database cannot be made.
pub fn seeds() -> Outcome<Seeds> {
    let mut gathered = Gathered::default();
    for disk in databases()? {
        for (path, _) in disk.files() {
            let bytes = disk.read_file(&path).expect("a file that was just listed");
            match path.file_name().and_then(|name| name.to_str()) {
                Some("pages") => of_pages(&bytes, &mut gathered),
                Some("doublewrite") => of_doublewrite(&bytes, &mut gathered),
                Some("control") => of_control(&disk, &mut gathered),
                _ => of_log(&bytes, &mut gathered),
            }
        }
    }
    of_texts(&mut gathered);
    of_numbers(&mut gathered);
    let mut seeds = Seeds::new();
    for ((target, _), inputs) in gathered.0 {
        seeds.entry(target).or_default().extend(inputs);
    }
    Ok(seeds)
}

/// Databases whose process was killed, or that were shut down.
fn databases() -> Outcome<Vec<SimDisk>> {
    let mut disks = Vec::new();
    for scenario in crate::scenario::all() {
        let Scenario { settings, prepare, operations, .. } = scenario;
        let settings = Settings { page_bytes: 4096, ..settings };
        let mut session = Session::create(&settings)?;
        session.run(&prepare)?;
        session.run(&operations)?;
        session.apply(&Operation::TakeCheckpoint)?;
        disks.push(session.disk.fork());
        session.close()?;
        disks.push(session.disk.fork());
    }
    Ok(disks)
}

fn of_pages(bytes: &[u8], gathered: &mut Gathered) {
    for page in bytes.chunks_exact(PAGE_BYTES) {
        let view = PageView::new(page);
        let used = page.iter().filter(|byte| **byte != 0).count();
        let looks = u64::from(view.kind().encode()) << 8 | u64::from(view.level()) << 4;
        gathered.add(
            "page",
            looks | u64::from(to_u64(used.max(1)).ilog2()),
            page::input(page, b"key"),
        );
    }
}

fn of_doublewrite(bytes: &[u8], gathered: &mut Gathered) {
    let areas = doublewrite::areas(bytes);
    for area in areas {
        let written = doublewrite::written(area);
        let slots = first_slots(written, 3);
        let looks = to_u64(slots.len() / 512);
        gathered.add("doublewrite", looks, doublewrite::input(4, slots, &[]));
        gathered.add(
            "doublewrite",
            looks + 64,
            doublewrite::input(1, slots, first_slots(written, 1)),
        );
    }
}

/// The first few slots of an area; the table is in the file that encodes them.
fn first_slots(area: &[u8], count: usize) -> &[u8] {
    let mut end = 0;
    for _ in 0..count {
        let Some(header) = area.get(end..end + 64) else { break };
        let payload = u32::from_le_bytes(std::array::from_fn(|at| header[48 + at]));
        let next = end + 64 + to_usize(u64::from(payload));
        if next > area.len() {
            break;
        }
        end = next;
    }
    &area[..end]
}

fn of_control(disk: &SimDisk, gathered: &mut Gathered) {
    let control = Control::open(disk, Path::new(PATH), true);
    let control = control.expect("a database that is sound").expect("a database");
    let mut state = Vec::new();
    control.state().encode(&mut state);
    let looks =
        to_u64(control.state().epochs.len()) << 1 | u64::from(control.state().master.is_some());
    gathered.add("control", looks, control::input_of_state(&state));
    let empty: &[u8] = &[];
    let copies = [(4, &*state), (5, &*state), (2, empty), (3, empty)];
    gathered.add("control", looks | 1 << 32, control::input_of_copies(copies));
    gathered.add("control", 1 << 40, [&[0][..], b"SEAWALL\0", &[1, 0, 0, 0]].concat());
}

fn of_log(bytes: &[u8], gathered: &mut Gathered) {
    for block in (0..bytes.len()).step_by(BLOCK_BYTES) {
        let Ok((frame, _)) = FrameHeader::decode_any(&bytes[block..]) else { continue };
        let Some(whole) = bytes.get(block..block + frame.frame_bytes()) else { continue };
        let payload = &whole[FRAME_HEADER_BYTES..][..frame.payload_bytes];
        let looks = u64::from(frame.record_count.min(8));
        let end = FRAME_HEADER_BYTES + frame.payload_bytes;
        gathered.add("frame", looks, frame::input(&whole[..end]));
        let seed = header::epoch_seed(frame.identity);
        for found in Records::new(&frame, payload, seed, record::MAX).map_while(Result::ok) {
            of_record(&found.header, found.bytes, gathered);
        }
    }
}

fn of_record(header: &header::Header, bytes: &[u8], gathered: &mut Gathered) {
    let Ok(body) = body_bytes(header, bytes) else { return };
    let Ok(decoded) = decode(header, &body) else { return };
    let looks = u64::from(header.kind) << 8 | u64::from(header.is_lz4);
    let mut ops = 0_u64;
    for op in decoded.body.page_refs().iter().flat_map(|page| page.ops.iter()) {
        let shown = format!("{op:?}");
        let known = OPS.iter().position(|name| shown.starts_with(name));
        ops |= 1 << known.expect("an operation that has a name");
    }
    gathered.add("record", looks | ops << 16, record::input(bytes));
    if let Body::CheckpointChunk(chunk) = &decoded.body {
        let looks = u64::from(chunk.section) << 8 | u64::from(chunk.data.len().max(1).ilog2());
        gathered.add("checkpoint_chunk", looks, checkpoint::input(chunk.section, chunk.data));
    }
}

/// Texts of real pairs, and what a person would write.
fn of_texts(gathered: &mut Gathered) {
    let pairs: Vec<_> = (0..12_u16)
        .map(|number| (key(number * 37), ValueSpec { bytes: 20, seed: u32::from(number) }.make()))
        .collect();
    let written: [(&[u8], &[u8]); 4] = [
        (b"plain", b"text"),
        (b"k\t\n\r\\", b"\"\x00,"),
        ("\u{feff}ü".as_bytes(), b""),
        (b"\xff", b"x"),
    ];
    for (target, format) in [("tsv", Format::Tsv), ("ndjson", Format::Ndjson), ("csv", Format::Csv)]
    {
        let some = pairs.iter().map(|(key, value)| (&**key, &**value));
        gathered.add(target, 0, formats::text_of(format, some));
        gathered.add(target, 1, formats::text_of(format, written.into_iter()));
    }
    for (target, texts) in [
        ("tsv", &["a\\tb\\\\\t\\n\\r\\x00\\xfF\n\nc\td", "no tab\n", "a\tb\tc\n", "a\t\\q\n"][..]),
        (
            "ndjson",
            &[
                "{\"key\":\"k\\n\",\"value\":\"v\\u0000\"}\n\n {\"value_base64\":\"dgA=\",\"key_base64\":\"awo=\"}",
                "{\"key\":1}\n",
                "{\"key\":\"\\ud83d\\ude00\",\"value\":\"\"}\n{}",
            ],
        ),
        (
            "csv",
            &[
                "a,b\r\n\"c,\n\"\"\",\"\"\n\n\nd,e",
                "a,b\r\r\nc,d\r",
                "a\n",
                "\u{feff}a,b\n\u{feff}c,d\n",
                "\"open,b\nc,d\n",
            ],
        ),
        (
            "key_syntax",
            &[
                "plain",
                "text:hex:00",
                "hex:00fF",
                "hex:0",
                "base64:AAE=",
                "base64:AAF=",
                "",
                "grün\u{85}",
            ],
        ),
    ] {
        for (looks, text) in (2..).zip(texts) {
            gathered.add(target, looks, text.as_bytes().to_vec());
        }
    }
    for (looks, (key, value)) in (100..).zip(&pairs) {
        gathered.add("key_syntax", looks, key.clone());
        gathered.add("key_syntax", looks, show(value).into_bytes());
    }
}

/// What has no other form than numbers.
fn of_numbers(gathered: &mut Gathered) {
    let mut random = Random::new(1);
    let mut bytes =
        |count: usize| (0..count).map(|_| random.next().to_le_bytes()[0]).collect::<Vec<u8>>();
    for number in 0..DRAWN {
        let operations = 5 + 3 * to_usize(8 + 4 * number);
        gathered.add("operations", number, bytes(operations));
        let changes = 6 * to_usize(1 + number % 6);
        gathered.add("files", number, bytes(changes));
    }
}
