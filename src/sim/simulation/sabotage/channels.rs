//! Which mistakes can be made on a channel between two workers? What it carries is late, turned round, misled or held back.

use std::collections::{BTreeMap, BTreeSet};

use super::Sabotage;
use crate::epoch::Epoch;
use crate::state::key::Key;
use crate::worker::io::{ChannelItem, WorkerIndex};

/// What mistakes on channels remember.
#[derive(Default)]
pub(in crate::sim) struct ChannelMistakes {
    /// The last barrier that came, by receiver and sender.
    barriers: BTreeMap<(WorkerIndex, WorkerIndex), Epoch>,
    /// Messages that came late and are in no section yet: by receiver, then type and id.
    late: BTreeMap<WorkerIndex, BTreeMap<(String, String), usize>>,
    /// Who has been invited at all since the start: that comes, for nothing could go the other way before it.
    invited: BTreeSet<(WorkerIndex, WorkerIndex)>,
    /// Credit that waits, by sender and receiver.
    credit: BTreeMap<(WorkerIndex, WorkerIndex), u32>,
}

impl ChannelMistakes {
    /// Items come to a worker that works in `working`: those before the barrier of the epoch that it has cut are late.
    pub(in crate::sim) fn note_late(
        &mut self,
        to: WorkerIndex,
        from: WorkerIndex,
        working: Epoch,
        items: &[ChannelItem],
    ) {
        for item in items {
            match item {
                ChannelItem::Barrier(epoch) => {
                    self.barriers.insert((to, from), *epoch);
                }
                ChannelItem::Message(message) => {
                    let barrier = self.barriers.get(&(to, from)).copied().unwrap_or(Epoch(0));
                    if barrier.0 + 1 < working.0 && self.barriers.contains_key(&(to, from)) {
                        let target = &message.target;
                        let address = (target.function_type().as_str().to_owned(), target.id().to_owned());
                        *self.late.entry(to).or_default().entry(address).or_default() += 1;
                    }
                }
                ChannelItem::Credit(_) => {}
            }
        }
    }

    /// Takes from a worker's section the messages that came late: of each address those that arrived last.
    pub(super) fn forget_late(&mut self, worker: WorkerIndex, said: &mut BTreeMap<Vec<u8>, Option<Vec<u8>>>) {
        for ((function_type, id), count) in self.late.remove(&worker).unwrap_or_default() {
            let is_of = |key: &[u8], value: &Option<Vec<u8>>| {
                let Some(Key::Mailbox { id: of, function_type: of_type, .. }) = Key::decode(key) else {
                    return false;
                };
                value.is_some() && (of_type, of) == (function_type.as_str(), id.as_str())
            };
            let waiting = said.iter().filter(|(key, value)| is_of(key, value)).map(|(key, _)| key.clone());
            let waiting: Vec<Vec<u8>> = waiting.collect();
            for key in waiting.iter().rev().take(count) {
                said.remove(key);
            }
        }
    }

    /// Makes the mistake, if it is one of channels; what is returned goes astray.
    pub(in crate::sim) fn alter(
        &mut self,
        sabotage: Sabotage,
        from: WorkerIndex,
        to: WorkerIndex,
        items: &mut Vec<ChannelItem>,
    ) -> Option<ChannelItem> {
        match sabotage {
            Sabotage::CreditWaits => self.hold_credit(from, to, items),
            Sabotage::ReversesBatch => {
                for run in items.chunk_by_mut(|one, next| is_message(one) && is_message(next)) {
                    run.reverse();
                }
            }
            Sabotage::Misroutes => {
                let at = items.iter().position(is_message)?;
                return Some(items.remove(at));
            }
            _ => {}
        }
        None
    }

    /// Credit waits for a message that goes its way.
    fn hold_credit(&mut self, from: WorkerIndex, to: WorkerIndex, items: &mut Vec<ChannelItem>) {
        let mut held = self.credit.remove(&(from, to)).unwrap_or(0);
        let has_message = items.iter().any(|item| matches!(item, ChannelItem::Message(_)));
        items.retain(|item| {
            if let ChannelItem::Credit(bytes) = item
                && !self.invited.insert((from, to))
            {
                held += bytes;
                return false;
            }
            true
        });
        if has_message && 0 < held {
            items.push(ChannelItem::Credit(held));
        } else if 0 < held {
            self.credit.insert((from, to), held);
        }
    }
}

fn is_message(item: &ChannelItem) -> bool {
    matches!(item, ChannelItem::Message(_))
}
