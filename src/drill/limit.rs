//! A limit of time for work that only knows how to be cancelled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::source::Cancel;

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Cancels work when it has taken too long, or when whoever asked for it gives it up. Looks no further when it is dropped.
#[derive(Debug)]
pub(super) struct Limit {
    cancel: Cancel,
    expired: Arc<AtomicBool>,
    _running: Sender<()>,
}

impl Limit {
    /// From now on.
    pub(super) fn new(parent: &Cancel, limit: Duration) -> Limit {
        let (cancel, expired) = (Cancel::default(), Arc::new(AtomicBool::new(false)));
        let (running, ended) = channel();
        let (parent, to_cancel, has_expired) = (parent.clone(), cancel.clone(), Arc::clone(&expired));
        let started = Instant::now();
        thread::spawn(move || {
            while ended.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                if parent.is_cancelled() {
                    return to_cancel.cancel();
                }
                if started.elapsed() >= limit {
                    has_expired.store(true, Ordering::Relaxed);
                    return to_cancel.cancel();
                }
            }
        });
        Limit { cancel, expired, _running: running }
    }

    /// What the work is to heed.
    pub(super) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Whether the time is over.
    pub(super) fn expired(&self) -> bool {
        self.expired.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_for(condition: impl Fn() -> bool) {
        let started = Instant::now();
        while !condition() {
            assert!(started.elapsed() < Duration::from_secs(60));
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn it_tells_its_own_end_from_a_wish() {
        let parent = Cancel::default();
        let short = Limit::new(&parent, Duration::from_millis(1));
        wait_for(|| short.cancel().is_cancelled());
        assert!(short.expired() && !parent.is_cancelled());
        let long = Limit::new(&parent, Duration::MAX);
        assert!(!long.cancel().is_cancelled());
        parent.cancel();
        wait_for(|| long.cancel().is_cancelled());
        assert!(!long.expired());
    }
}
