//! How do threads hand each other work? Through inboxes of batches, one lock a batch.
//!
//! A [`push`](Inbox::push) never waits: what it carries is bounded by the machines (channel credit, one command to the store at a
//! time) or by the shell (bytes of a connection under way, admin clients). [`push_waiting`](Inbox::push_waiting) waits while the
//! inbox is full, and is for threads that thread 0 never waits for.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

/// Batches that may wait for thread 0 before another worker's thread waits itself. Each holds what one turn of a worker gives
/// (at most 256 invocations); fewer stalls workers sooner, more lets a slow socket hold more memory.
pub const BATCHES_WAITING_MAX: usize = 256;

/// A queue with one taker, who is a thread or a task, and any number of givers.
#[derive(Debug)]
pub struct Inbox<T> {
    inner: Mutex<Inner<T>>,
    /// Signals the taking thread that something came.
    came: Condvar,
    /// Signals waiting givers that there is room.
    room: Condvar,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self {
            inner: Mutex::new(Inner {
                items: VecDeque::new(),
                taker: None,
                taker_sleeps: false,
                is_roused: false,
                givers_waiting: 0,
                closed: false,
            }),
            came: Condvar::new(),
            room: Condvar::new(),
        }
    }
}

impl<T> Inbox<T> {
    /// Puts an item in, however many there are.
    pub fn push(&self, item: T) {
        let mut inner = self.lock();
        inner.items.push_back(item);
        self.wake_taker(&mut inner);
    }

    /// Puts an item in as soon as fewer than [`BATCHES_WAITING_MAX`] are waiting; drops it if the inbox is closed.
    pub fn push_waiting(&self, item: T) {
        let mut inner = self.lock();
        while BATCHES_WAITING_MAX <= inner.items.len() && !inner.closed {
            inner.givers_waiting += 1;
            inner = self.room.wait(inner).unwrap_or_else(PoisonError::into_inner);
            inner.givers_waiting -= 1;
        }
        if !inner.closed {
            inner.items.push_back(item);
            self.wake_taker(&mut inner);
        }
    }

    /// Has the taker look, though nothing came.
    pub fn rouse(&self) {
        let mut inner = self.lock();
        inner.is_roused = true;
        self.wake_taker(&mut inner);
    }

    /// Appends all that is there to `items`, without waiting.
    pub fn take(&self, items: &mut VecDeque<T>) {
        let mut inner = self.lock();
        self.take_all(&mut inner, items);
    }

    /// The same, waiting for something to come, at most this long (for ever if `None`).
    pub fn take_waiting(&self, items: &mut VecDeque<T>, wait_max: Option<Duration>) {
        let mut inner = self.lock();
        if inner.items.is_empty() && !inner.closed && !inner.is_roused {
            inner.taker_sleeps = true;
            inner = match wait_max {
                None => self.came.wait(inner).unwrap_or_else(PoisonError::into_inner),
                Some(wait_max) => {
                    self.came.wait_timeout(inner, wait_max).unwrap_or_else(PoisonError::into_inner).0
                }
            };
            inner.taker_sleeps = false;
        }
        self.take_all(&mut inner, items);
    }

    /// Is there something? If not, `waker` is woken when something comes.
    pub fn is_ready(&self, waker: &Waker) -> bool {
        let mut inner = self.lock();
        let is_ready = inner.is_roused || !inner.items.is_empty();
        if !is_ready {
            inner.taker = Some(waker.clone());
        }
        is_ready
    }

    /// Nobody takes any more: lets waiting givers go on, and wakes a taker that is to end.
    pub fn close(&self) {
        self.lock().closed = true;
        self.room.notify_all();
        self.came.notify_all();
    }

    /// Is that so?
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn take_all(&self, inner: &mut Inner<T>, items: &mut VecDeque<T>) {
        inner.is_roused = false;
        if items.is_empty() {
            std::mem::swap(items, &mut inner.items);
        } else {
            items.append(&mut inner.items);
        }
        if 0 < inner.givers_waiting {
            self.room.notify_all();
        }
    }

    fn wake_taker(&self, inner: &mut Inner<T>) {
        if inner.taker_sleeps {
            self.came.notify_one();
        }
        if let Some(waker) = inner.taker.take() {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Inner<T> {
    items: VecDeque<T>,
    /// The taking task, waiting.
    taker: Option<Waker>,
    is_roused: bool,
    /// Does the taking thread sleep?
    taker_sleeps: bool,
    givers_waiting: usize,
    closed: bool,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_full_inbox_loses_nothing_and_keeps_the_order() {
        let inbox = Arc::new(Inbox::default());
        let giver = Arc::clone(&inbox);
        let count = 4 * BATCHES_WAITING_MAX;
        let thread = std::thread::spawn(move || (0..count).for_each(|number| giver.push_waiting(number)));
        let (mut got, mut items) = (Vec::new(), VecDeque::new());
        while got.len() < count {
            inbox.take_waiting(&mut items, None);
            assert!(items.len() <= BATCHES_WAITING_MAX);
            got.extend(items.drain(..));
        }
        thread.join().unwrap();
        assert_eq!(got, (0..count).collect::<Vec<_>>());
    }

    #[test]
    fn a_closed_inbox_lets_its_givers_go() {
        let inbox = Arc::new(Inbox::default());
        let giver = Arc::clone(&inbox);
        let thread = std::thread::spawn(move || {
            (0..2 * BATCHES_WAITING_MAX).for_each(|number| giver.push_waiting(number))
        });
        inbox.close();
        thread.join().unwrap();
    }
}
