//! Keys and values on the command line: the input is an argument, and is bytes to show.

use seawall_cli::bytes::{parse, show};

/// What is shown can be given back, and means the same; one notation of it is shown.
pub fn key_syntax(bytes: &[u8]) {
    if let Ok(meant) = parse(bytes) {
        assert!(meant.0.len() <= bytes.len(), "more bytes than were given");
        round_trip(&meant.0);
    }
    round_trip(bytes);
}

fn round_trip(bytes: &[u8]) {
    let shown = show(bytes);
    assert!(!shown.contains(char::is_control), "a control character is shown: {shown:?}");
    let meant = parse(shown.as_bytes());
    assert_eq!(meant.map(|meant| meant.0).as_deref(), Ok(bytes), "{shown}");
}
