//! The one place where a record is appended and the pages it names change.
//!
//! Each step of the order has its reason:
//!
//! 1. the caller has credit, then the latches; the record is finished in scratch memory;
//! 2. append sequence odd: a checkpoint that reserves its begin record after ours waits for us;
//! 3. each page enters the dirty table with `rec_lsn = reserved`, at or below our START (P1);
//! 4. the place is reserved: one `fetch_add`;
//! 5. `last_lsn` of transaction and dirty entries, and the commit, are stored;
//! 6. append sequence even;
//! 7. the record is copied into the ring and published. From 4 to here nothing allocates, waits or
//!    can panic (W3): a hole in the log would stop it for good;
//! 8. the pages change, and carry the record's END as their `page_lsn`;
//! 9. the caller lets go of the latches.

use seawall_wal::log::Credit;
use seawall_wal::record::{Body, record_bytes_max};
use seawall_wal::{Lsn, TxnId};

use super::Engine;
use super::overflow::EXTENTS_MAX;
use crate::armed::Armed;
use crate::page::{PageRead, PageView, apply, set_page_lsn};
use crate::planted::{Bug, is_planted};
use crate::pool::ExclusivePage;
use crate::pool::dirty::DirtyMark;
use crate::txn::AppenderGuard;

/// Most pages that one record changes: a leaf and the bitmap pages of one of its values, each of whose
/// extents may lie under another one. Changes of the structure have six at most.
pub(crate) const RECORD_PAGES_MAX: usize = 1 + EXTENTS_MAX;

/// Where a record came to lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Appended {
    pub(crate) start: Lsn,
    pub(crate) end: Lsn,
}

/// What holds a transaction's records together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    pub(crate) txn: TxnId,
    pub(crate) prev_lsn: Lsn,
}

impl Chain {
    /// Of records that belong to no transaction.
    pub(crate) const NONE: Self = Self { txn: TxnId::NONE, prev_lsn: Lsn::NONE };
}

impl Engine {
    /// Appends a record and applies it to `pages`, which are those of its references in their
    /// order, latched exclusively. `stores` makes the stores of step 5.
    pub(crate) fn append(
        &self,
        appender: &mut AppenderGuard<'_>,
        credit: &mut Credit,
        chain: Chain,
        body: &Body<'_>,
        pages: &mut [&mut ExclusivePage<'_>],
        stores: impl FnOnce(Appended),
    ) -> Appended {
        let _armed = Armed::new(&*self.log);
        let refs = body.page_refs();
        assert_eq!(refs.len(), pages.len(), "a record changes the pages that it names");
        assert!(pages.len() <= RECORD_PAGES_MAX, "a record changes a handful of pages");
        let mut marks = [None; RECORD_PAGES_MAX];

        let sequence = appender.sequence();
        let record = appender.encoder.encode(chain.txn, chain.prev_lsn, body);
        let fits = record.fits(record_bytes_max(self.page_bytes));
        assert!(fits, "{} bytes of a record that nobody could read again", record.raw_length);
        sequence.begin();
        if !is_planted(Bug::RecLsnAfterReserve) {
            self.enter_dirty(body, &mut marks);
        }
        let reservation = self.log.reserve(credit, record.padded_length());
        if is_planted(Bug::RecLsnAfterReserve) {
            self.enter_dirty(body, &mut marks);
        }
        let appended = Appended { start: reservation.start(), end: reservation.end() };
        for mark in marks.into_iter().flatten() {
            self.dirty.touched(mark, appended.end);
        }
        stores(appended);
        sequence.end();
        self.log.publish(reservation, record);

        for (page_ref, page) in refs.iter().zip(pages) {
            assert_eq!(page_ref.page, page.id(), "references and pages are in the same order");
            for op in &*page_ref.ops {
                if let Err(error) = apply(*page, page_ref.page, &op.in_record_at(appended.start)) {
                    panic!("a logged change does not apply to page {}: {error}", page_ref.page);
                }
            }
            set_page_lsn(*page, appended.end);
        }
        appended
    }

    fn enter_dirty(&self, body: &Body<'_>, marks: &mut [Option<DirtyMark>; RECORD_PAGES_MAX]) {
        for (page_ref, mark) in body.page_refs().iter().zip(marks) {
            let reserved = || self.log.reserved_lsn();
            *mark = Some(if page_ref.is_init {
                self.dirty.enter_recreated(page_ref.page, reserved)
            } else {
                self.dirty.enter(page_ref.page, reserved)
            });
        }
    }
}

/// The `page_lsn` of a latched page, which a record's reference to it carries.
pub(crate) fn page_lsn(page: &impl PageRead) -> Lsn {
    PageView::new(page.bytes()).page_lsn()
}
