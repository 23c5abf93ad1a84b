//! What does a queue keep when it is empty again? What a busy epoch fills, and no more.

use std::collections::VecDeque;

/// Gives back what a queue took when it was longer.
pub(super) fn shrink<T>(queue: &mut VecDeque<T>) {
    if KEPT_PLACES < queue.capacity() && queue.len() < queue.capacity() / 4 {
        queue.shrink_to((2 * queue.len()).max(KEPT_PLACES));
    }
}

/// Places that an empty queue keeps.
const KEPT_PLACES: usize = 4096;
