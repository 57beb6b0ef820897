//! How often pages were found without a lock under which they could be counted. Each thread counts
//! on a line that few others use, so that readers of one page do not write a line in common.

use std::cell::Cell;

use seawall_wal::sync::atomic::{AtomicU64, Ordering};

/// Lines; threads share them by turns.
const STRIPES: usize = 32;

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe(AtomicU64);

/// The count.
#[derive(Debug)]
pub(super) struct Hits {
    stripes: Box<[Stripe]>,
}

thread_local! {
    static STRIPE: Cell<usize> = const { Cell::new(usize::MAX) };
}

impl Hits {
    pub(super) fn new() -> Self {
        Self { stripes: (0..STRIPES).map(|_| Stripe::default()).collect() }
    }

    /// So many more.
    #[inline]
    pub(super) fn add(&self, count: u64) {
        self.stripes[stripe()].0.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn count(&self) -> u64 {
        self.stripes.iter().map(|stripe| stripe.0.load(Ordering::Relaxed)).sum()
    }
}

/// This thread's stripe.
#[inline]
fn stripe() -> usize {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    match STRIPE.get() {
        usize::MAX => {
            let stripe = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % STRIPES;
            STRIPE.set(stripe);
            stripe
        }
        stripe => stripe,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::Hits;

    #[test]
    fn hits_of_all_threads_are_counted() {
        let hits = Hits::new();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1000).for_each(|_| hits.add(2)));
            }
        });
        assert_eq!(hits.count(), 16_000);
    }
}
