//! One test for each row of the table at the head of `tail`.

use super::*;

/// Evidence of a log that ends at 1000, where nothing else is known.
fn evidence() -> TailEvidence {
    TailEvidence {
        stop_lsn: Lsn::new(1000),
        known_durable_lsn: Lsn::new(1000),
        clean_lsn: None,
        is_newer_epoch_found: false,
        frames_beyond_end_lsn: None,
    }
}

#[test]
fn row_newer_epoch_wins_over_everything() {
    for clean_lsn in [None, Some(Lsn::new(1000))] {
        for known_durable_lsn in [Lsn::NONE, Lsn::new(1000), Lsn::new(2000)] {
            let case = TailCase::decide(&TailEvidence {
                is_newer_epoch_found: true,
                clean_lsn,
                known_durable_lsn,
                ..evidence()
            });
            assert_eq!(case, TailCase::NewerEpoch);
        }
    }
}

#[test]
fn row_lost_durable() {
    for frames_beyond_end_lsn in [None, Some(Lsn::new(2000))] {
        for clean_lsn in [None, Some(Lsn::new(1008))] {
            let case = TailCase::decide(&TailEvidence {
                known_durable_lsn: Lsn::new(1008),
                frames_beyond_end_lsn,
                clean_lsn,
                ..evidence()
            });
            assert_eq!(case, TailCase::LostDurable);
        }
    }
}

#[test]
fn row_beyond_clean_by_frames_that_fit() {
    let clean = Lsn::new(992);
    let case = TailCase::decide(&TailEvidence {
        known_durable_lsn: clean,
        clean_lsn: Some(clean),
        ..evidence()
    });
    assert_eq!(case, TailCase::BeyondClean);
}

#[test]
fn row_beyond_clean_by_frames_that_do_not_fit() {
    let case = TailCase::decide(&TailEvidence {
        clean_lsn: Some(Lsn::new(1000)),
        frames_beyond_end_lsn: Some(Lsn::new(1080)),
        ..evidence()
    });
    assert_eq!(case, TailCase::BeyondClean);
}

#[test]
fn row_clean_end() {
    let case = TailCase::decide(&TailEvidence { clean_lsn: Some(Lsn::new(1000)), ..evidence() });
    assert_eq!(case, TailCase::CleanEnd);
}

#[test]
fn row_torn_tail() {
    for known_durable_lsn in [Lsn::NONE, Lsn::new(1000)] {
        let case = TailCase::decide(&TailEvidence {
            known_durable_lsn,
            frames_beyond_end_lsn: Some(Lsn::new(1080)),
            ..evidence()
        });
        assert_eq!(case, TailCase::TornTail);
    }
}

#[test]
fn row_open_end() {
    assert_eq!(TailCase::decide(&evidence()), TailCase::OpenEnd);
}
