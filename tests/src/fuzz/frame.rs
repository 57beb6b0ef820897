//! Frames: the header, and the records behind it.
//!
//! | input | |
//! |---|---|
//! | 1 byte | 1: the header's checksum is put right; 2: those of the records; 4: the length of the payload |
//! | the rest | a frame, from its header on |

use seawall_wal::codec::to_u64;
use seawall_wal::log::frame::{
    FRAME_HEADER_BYTES, FRAME_PAYLOAD_BYTES_MAX, FrameHeader, Records, verify_frame, verify_payload,
};
use seawall_wal::record::header::{self, Header};
use seawall_wal::record::{RECORD_ALIGN, RECORD_HEADER_BYTES};

use super::record::{MAX, read};

/// Places in the header; its table is in the file that encodes it.
const PAYLOAD_BYTES_AT: usize = 40;
const CHECKSUM_AT: usize = 124;

/// Bytes as a frame: a header has one encoding; all ways of reading the records agree.
pub fn frame(bytes: &[u8]) {
    let Some((flags, bytes)) = bytes.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if bytes.len() < FRAME_HEADER_BYTES {
        assert!(FrameHeader::decode_any(&bytes).is_err(), "a header that is cut short");
        return;
    }
    if flags & 4 == 4 {
        let there = bytes.len() - FRAME_HEADER_BYTES;
        let payload = there.min(FRAME_PAYLOAD_BYTES_MAX) / RECORD_ALIGN * RECORD_ALIGN;
        let payload = u32::try_from(payload).expect("at most FRAME_PAYLOAD_BYTES_MAX");
        bytes[PAYLOAD_BYTES_AT..][..4].copy_from_slice(&payload.to_le_bytes());
    }
    if flags & 1 == 1 {
        let checksum = crc32c::crc32c(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..][..4].copy_from_slice(&checksum.to_le_bytes());
    }
    let Ok((frame, checksum)) = FrameHeader::decode_any(&bytes) else { return };
    let mut again = vec![0xee; FRAME_HEADER_BYTES];
    assert_eq!(frame.encode(&mut again), checksum, "another checksum of {frame:?}");
    assert!(again == bytes[..FRAME_HEADER_BYTES], "two encodings of {frame:?}");
    assert!(FrameHeader::decode(&bytes, frame.identity).is_ok(), "its own identity");
    assert!(FrameHeader::decode(&bytes, !frame.identity).is_err(), "another identity");
    assert!(frame.payload_bytes <= FRAME_PAYLOAD_BYTES_MAX, "a payload without a bound");
    bytes.resize(frame.frame_bytes(), 0);
    let seed = header::epoch_seed(frame.identity);
    if flags & 2 == 2 {
        let payload = &mut bytes[FRAME_HEADER_BYTES..][..frame.payload_bytes];
        seal_records(&frame, payload, seed);
    }
    ask(&frame, &bytes, seed);
}

/// The input for a frame.
pub(super) fn input(frame: &[u8]) -> Vec<u8> {
    [&[3], frame].concat()
}

fn ask(frame: &FrameHeader, bytes: &[u8], seed: u32) {
    let payload = &bytes[FRAME_HEADER_BYTES..][..frame.payload_bytes];
    let mut lsn = frame.frame_lsn;
    let (mut count, mut is_sound) = (0_u64, true);
    for record in Records::new(frame, payload, seed, MAX) {
        assert!(is_sound, "records behind an error");
        match record {
            Ok(record) => {
                assert_eq!(record.lsn, lsn, "a record in another place");
                assert!(record.end_lsn > lsn && record.end_lsn <= frame.end_lsn(), "its end");
                assert_eq!(record.bytes.len(), record.header.length, "its length");
                read(&record.header, record.bytes);
                lsn = record.end_lsn;
                count += 1;
            }
            Err(error) => {
                assert!(error.offset <= payload.len(), "an error outside: {error}");
                is_sound = false;
            }
        }
    }
    let is_whole = is_sound && count == u64::from(frame.record_count);
    assert!(!is_whole || lsn == frame.end_lsn(), "records end in front of the frame's end");
    assert_eq!(verify_payload(frame, payload, seed, MAX).is_ok(), is_whole, "{frame:?}");
    let padding = &bytes[FRAME_HEADER_BYTES + frame.payload_bytes..];
    let is_padded = padding.iter().all(|byte| *byte == 0);
    assert_eq!(verify_frame(frame, bytes, seed, MAX).is_ok(), is_whole && is_padded, "{frame:?}");
}

/// Gives each record the checksum of its place, as far as their lengths lead.
fn seal_records(frame: &FrameHeader, payload: &mut [u8], seed: u32) {
    let mut at = 0;
    while let Ok(header) = Header::decode(&payload[at..], MAX) {
        let end = at + header.length;
        let Some(record) = payload.get_mut(at..end).filter(|it| it.len() >= RECORD_HEADER_BYTES)
        else {
            return;
        };
        let lsn = frame.frame_lsn.advance(to_u64(at));
        let checksum = header::checksum(seed, lsn, header::content_checksum(record));
        header::seal(record, checksum);
        at += header.padded_length();
        if at >= payload.len() {
            return;
        }
    }
}
