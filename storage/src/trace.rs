//! What goes to the crate `tracing`, where the feature of that name is on: each [`Event`], as one of
//! tracing's with the same sentence, and spans around opening and around checkpoints, all under the
//! target `seawall`. Without the feature nothing of it is there.
//!
//! It stands where events are told, so what holds for a receiver of events holds for a subscriber.

use std::path::Path;

use crate::Event;

/// A span, entered until this is dropped.
#[must_use]
pub(crate) struct Entered {
    #[cfg(feature = "tracing")]
    _span: tracing::span::EnteredSpan,
}

/// Opening the database in `dir`: creating or recovering it.
#[cfg(feature = "tracing")]
pub(crate) fn open(dir: &Path) -> Entered {
    Entered {
        _span: tracing::info_span!(target: "seawall", "open", dir = %dir.display()).entered(),
    }
}

#[cfg(not(feature = "tracing"))]
pub(crate) const fn open(_dir: &Path) -> Entered {
    Entered {}
}

/// A checkpoint.
#[cfg(feature = "tracing")]
pub(crate) fn checkpoint() -> Entered {
    Entered { _span: tracing::info_span!(target: "seawall", "checkpoint").entered() }
}

#[cfg(not(feature = "tracing"))]
pub(crate) const fn checkpoint() -> Entered {
    Entered {}
}

/// Tells of an event.
#[cfg(feature = "tracing")]
pub(crate) fn event(event: &Event) {
    match event {
        Event::CheckpointBegin { begin_lsn } => {
            tracing::debug!(target: "seawall", begin_lsn = begin_lsn.get(), "{event}");
        }
        Event::CheckpointEnd(report) => tracing::info!(
            target: "seawall",
            begin_lsn = report.begin_lsn.get(),
            redo_lsn = report.redo_lsn.get(),
            dirty_pages = report.dirty_pages,
            "{event}"
        ),
        Event::RecoveryProgress { phase, done, total } => {
            tracing::debug!(target: "seawall", %phase, done, total, "{event}");
        }
        Event::StallBegin { reason } => tracing::warn!(target: "seawall", %reason, "{event}"),
        Event::StallEnd { reason, waited } => {
            tracing::info!(target: "seawall", %reason, ?waited, "{event}");
        }
        Event::Poisoned { error } | Event::Damaged { error } | Event::CloseFailed { error } => {
            tracing::error!(target: "seawall", %error, "{event}");
        }
    }
}

#[cfg(not(feature = "tracing"))]
pub(crate) const fn event(_event: &Event) {}
