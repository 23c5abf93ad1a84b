//! What may a worker hold? One account for everything that waits or is cached; full, it spills, then closes the ingress, then makes
//! addresses wait. It never drops.

use embassy_time::Instant;

use crate::epoch::Epoch;
use crate::mqtt::session::{Intake, SessionInput};
use crate::store::BaseRead;

use super::instances::{INSTANCE_BYTES, InstanceIndex, Status, Sweep};
use super::io::WorkerOutput;
use super::{Logged, Notes, Worker, WorkerLimits};

/// A worker's memory account.
#[derive(Debug)]
pub(crate) struct Account {
    limit: usize,
    used: usize,
    /// Of the sessions: asked for rather than counted.
    session_bytes: usize,
    /// Of that, PUBLISHes that wait for the intake, …
    held_bytes: usize,
    /// … and what waits for brokers.
    outbox_bytes: usize,
    /// Of the overlay, likewise.
    overlay_bytes: usize,
    /// Bytes that the working epoch made dirty.
    epoch_bytes: usize,
    /// Of `used`, what letters take that are in memory.
    letter_bytes: usize,
    /// Letters that wait, wherever they are.
    pub(crate) letters: u64,
    letters_max: u64,
    /// Dead letters that this worker keeps, and their bytes.
    dead_letters: u64,
    dead_letters_max: u64,
    dead_letter_bytes: u64,
    dead_letter_bytes_max: u64,
    is_fold_wanted: bool,
    is_intake_open: bool,
    /// Is the working epoch full, and the one before it not committed?
    is_epoch_shut: bool,
}

impl Account {
    pub(crate) fn new(limits: &WorkerLimits) -> Self {
        Self {
            limit: limits.memory_bytes,
            used: 0,
            session_bytes: 0,
            held_bytes: 0,
            outbox_bytes: 0,
            overlay_bytes: 0,
            epoch_bytes: 0,
            letter_bytes: 0,
            letters: 0,
            letters_max: limits.letters_max,
            dead_letters: 0,
            dead_letters_max: limits.dead_letters_max,
            dead_letter_bytes: 0,
            dead_letter_bytes_max: limits.dead_letter_bytes_max,
            is_fold_wanted: false,
            is_intake_open: true,
            is_epoch_shut: false,
        }
    }

    pub(crate) fn add(&mut self, bytes: usize) {
        self.used += bytes;
    }

    pub(crate) fn remove(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
    }

    /// A mailbox in memory went from so many bytes to so many.
    pub(crate) fn change_letters(&mut self, before: usize, after: usize) {
        self.letter_bytes = (self.letter_bytes + after).saturating_sub(before);
        self.add(after);
        self.remove(before);
    }

    /// One more dead letter, with so many bytes of key and value.
    pub(crate) fn add_dead_letter(&mut self, bytes: usize) {
        self.dead_letters += 1;
        self.dead_letter_bytes += bytes as u64;
    }

    /// A dead letter of so many bytes is gone.
    pub(crate) fn remove_dead_letter(&mut self, bytes: usize) {
        debug_assert!(0 < self.dead_letters && bytes as u64 <= self.dead_letter_bytes);
        self.dead_letters = self.dead_letters.saturating_sub(1);
        self.dead_letter_bytes = self.dead_letter_bytes.saturating_sub(bytes as u64);
    }

    pub(crate) fn dead_letters(&self) -> u64 {
        self.dead_letters
    }

    /// Must a person look at dead letters before there may be more?
    pub(crate) fn is_full_of_dead_letters(&self) -> bool {
        self.dead_letters_max <= self.dead_letters || self.dead_letter_bytes_max <= self.dead_letter_bytes
    }

    /// Notes bytes that the working epoch's frame will carry, beside what was put into it already.
    pub(crate) fn add_dirty(&mut self, bytes: usize) {
        self.epoch_bytes += bytes;
    }

    pub(crate) fn begin_epoch(&mut self) {
        self.epoch_bytes = 0;
    }

    /// Is there memory for what comes in?
    pub(crate) fn is_intake_open(&self) -> bool {
        self.is_intake_open
    }

    /// What sessions do with records. Over HTTP, where few wait at a time, a full epoch refuses nobody.
    fn intake(&self) -> Intake {
        match (self.is_intake_open, self.is_epoch_shut) {
            (true, false) => Intake::Open,
            (true, true) => Intake::Paused,
            (false, _) => Intake::Closed,
        }
    }

    pub(crate) fn used(&self) -> usize {
        self.used + self.session_bytes + self.overlay_bytes
    }

    pub(crate) fn used_beside_held(&self) -> usize {
        self.used() - self.held_bytes
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Is there room for effects of this many bytes? The rest of the account is for letters from other workers and for one call.
    pub(crate) fn fits(&self, bytes: usize) -> bool {
        self.used() + bytes <= self.limit / 100 * EFFECTS_FIT_PERCENT
    }

    /// Are there as many letters in memory as there may be where other workers are to be invited?
    fn is_full_of_letters(&self) -> bool {
        let percent =
            if self.is_above(INVITES_PERCENT) { LETTERS_PERCENT - CHANNELS_PERCENT } else { LETTERS_PERCENT };
        self.limit / 100 * percent <= self.letter_bytes
    }

    /// What one call may take of the rest, in bytes, request and reply.
    pub(crate) fn call_bytes_max(&self) -> usize {
        self.limit / 100 * CALL_PERCENT
    }

    /// What may be read of a spilled mailbox at a time, in bytes of memory; a single letter may exceed it.
    pub(crate) fn page_bytes(&self) -> usize {
        PAGE_BYTES_MAX.min(self.limit / 100 * PAGE_PERCENT)
    }

    /// Is there room to invite more from other workers? If what they may send fits, and letters can be spilled while it comes. An epoch that
    /// is shut opens at a commit.
    ///
    /// Messages that wait for a channel cannot be spilled, so two workers that are full of them still take each other's. What reaches a
    /// session's outbox cannot be spilled either, but the broker takes it: where that fills the account, other workers wait for the broker.
    pub(crate) fn has_room(&self, has_unsent: bool) -> bool {
        let is_full_of_outbox = self.limit / 100 * LETTERS_PERCENT < self.outbox_bytes;
        let fits = !self.is_above(INVITES_PERCENT) || has_unsent && !is_full_of_outbox;
        fits && !self.is_full_of_letters() && !self.is_epoch_shut
    }

    fn is_above(&self, percent: usize) -> bool {
        self.limit / 100 * percent < self.used()
    }
}

/// What a channel may hold at most, in bytes, where there are so many workers: what is under way when an account is full must still be
/// taken, from all of them.
pub(crate) fn channel_bytes_max(memory_bytes: usize, workers: usize) -> u32 {
    let all = memory_bytes / 100 * CHANNELS_PERCENT;
    u32::try_from(all / workers.saturating_sub(1).max(1)).unwrap_or(u32::MAX)
}

impl<B: BaseRead, N: Notes> Worker<B, N> {
    /// Must invoking stop? The epoch is full and the one before it is not committed, or nothing is invoked at all.
    pub(crate) fn must_pause(&self) -> bool {
        self.is_at_rest || self.is_epoch_shut()
    }

    fn is_epoch_shut(&self) -> bool {
        self.is_epoch_full() && self.epochs.in_flight.is_some()
    }

    /// Will the working epoch's frame be as long as it may be?
    pub(crate) fn is_epoch_full(&self) -> bool {
        self.config.limits.epoch_bytes <= self.account.epoch_bytes + self.frame.byte_count()
    }

    /// Asks for a fold when memory is short, opens and closes the ingress.
    pub(crate) fn balance_memory(&mut self, now: Instant) {
        let (mut all, mut held, mut outbox) = (0, 0, 0);
        for session in self.sessions.iter().map(|owned| &owned.session) {
            all += session.memory_bytes();
            held += session.held_bytes();
            outbox += session.outbox_bytes();
        }
        let account = &mut self.account;
        (account.session_bytes, account.held_bytes, account.outbox_bytes) = (all, held, outbox);
        account.overlay_bytes = self.overlay.memory_bytes();
        let is_short = account.is_above(FOLD_WANTED_PERCENT)
            || !self.memory_waiters.is_empty()
            || self.are_peers_kept_waiting();
        // A fold helps only if something was committed since the last.
        let helps = self.epochs.folded < self.epochs.committed;
        if is_short && helps && !self.account.is_fold_wanted {
            self.account.is_fold_wanted = true;
            self.count("fold-wanted");
            self.outputs.push_back(WorkerOutput::FoldWanted);
        }
        let is_counted_out =
            self.account.letters_max <= self.account.letters || self.account.is_full_of_dead_letters();
        let before = self.account.intake();
        let percent = if self.account.is_intake_open { INTAKE_CLOSES_PERCENT } else { INTAKE_OPENS_PERCENT };
        // What is held takes no more when it is let in.
        let is_above = self.account.limit / 100 * percent < self.account.used_beside_held();
        let has_room = !is_above && !is_counted_out;
        if has_room != self.account.is_intake_open {
            self.account.is_intake_open = has_room;
            self.count(if has_room { "intake-opened" } else { "intake-closed" });
        }
        let is_shut = self.is_epoch_shut();
        if is_shut && !self.account.is_epoch_shut {
            self.count("epoch-full");
        }
        self.account.is_epoch_shut = is_shut;
        let intake = self.account.intake();
        if intake != before {
            for at in 0..self.sessions.len() {
                self.sessions[at].session.handle_input(now, SessionInput::Intake(intake));
                self.drain_session(now, at);
            }
        }
        self.wake_memory_waiters();
    }

    /// The base holds every epoch up to this one: drop what it hides, and what may be read again if memory is short.
    pub(crate) fn handle_folded(&mut self, _now: Instant, folded: Epoch) {
        self.account.is_fold_wanted = false;
        self.epochs.folded = folded;
        self.overlay.folded(folded);
        if !self.logged.is_empty() {
            self.account.remove(self.logged.memory_bytes());
            self.logged = Logged::default();
        }
        for owned in &mut self.sessions {
            owned.session.folded(folded);
        }
        if self.account.is_above(EVICT_ABOVE_PERCENT)
            || !self.memory_waiters.is_empty()
            || self.are_peers_kept_waiting()
        {
            self.evict(folded);
        }
    }

    /// Do other workers get no credit before letters or states leave memory?
    fn are_peers_kept_waiting(&self) -> bool {
        !self.channels.is_empty()
            && (self.account.is_full_of_letters() || self.account.is_above(INVITES_PERCENT))
    }

    /// Lets an address wait until so many bytes fit, and gives back what it can read again then: those that wait must not hold what
    /// they wait for.
    pub(crate) fn wait_for_memory(&mut self, at: InstanceIndex, bytes: usize) {
        self.count("waited-for-memory");
        let folded = self.epochs.folded;
        let instance = self.instances.at(at);
        instance.status = Status::WaitingForMemory;
        let letters = instance.mailbox.memory_bytes();
        instance.mailbox.spill(folded, instance.kept_letters(1));
        self.account.change_letters(letters, instance.mailbox.memory_bytes());
        let given_back = instance.states.give_back(folded);
        self.account.remove(given_back);
        self.memory_waiters.push_back((at, bytes + given_back));
        // Where something was committed since the last fold, the next one evicts.
        if self.is_saturated() && self.epochs.committed <= folded {
            self.evict(folded);
        }
    }

    /// Every address that could run waits for memory.
    pub(crate) fn is_saturated(&self) -> bool {
        self.run_queue.is_empty() && !self.memory_waiters.is_empty()
    }

    fn evict(&mut self, folded: Epoch) {
        let somebody_waits = !self.memory_waiters.is_empty() || self.are_peers_kept_waiting();
        let kept = if somebody_waits { 0 } else { MAILBOX_KEPT_LETTERS };
        let Self { instances, account, epochs, .. } = self;
        instances.sweep(|instance| {
            if !account.is_above(EVICT_DOWN_TO_PERCENT) {
                return Sweep::Enough;
            }
            let before = instance.mailbox.memory_bytes();
            instance.mailbox.spill(folded, instance.kept_letters(kept));
            account.change_letters(before, instance.mailbox.memory_bytes());
            let is_idle = instance.status == Status::Idle && instance.mailbox.is_empty();
            let is_listed = instance.touched == epochs.working;
            if is_idle && !is_listed && instance.states.is_evictable(folded) {
                account.remove(INSTANCE_BYTES + instance.states.memory_bytes());
                Sweep::Evict
            } else {
                if matches!(instance.status, Status::WaitingForMemory | Status::Held) {
                    account.remove(instance.states.give_back(folded));
                }
                Sweep::Keep
            }
        });
    }

    /// Lets those run again whose effects now fit, in the order in which they began to wait.
    fn wake_memory_waiters(&mut self) {
        while let Some(&(at, bytes)) = self.memory_waiters.front()
            && self.account.fits(bytes)
        {
            self.memory_waiters.pop_front();
            self.requeue(at);
        }
    }
}

/// Above this share of the account a fold is asked for, so that there is something to evict.
const FOLD_WANTED_PERCENT: usize = 40;
/// After a fold, above this share instances are evicted and mailboxes spilled …
const EVICT_ABOVE_PERCENT: usize = 30;
/// … down to this share.
const EVICT_DOWN_TO_PERCENT: usize = 20;
/// Above this share the ingress is closed.
const INTAKE_CLOSES_PERCENT: usize = 65;
/// Below this share it is opened again.
const INTAKE_OPENS_PERCENT: usize = 50;
/// Effects are applied up to this share; the rest is for what cannot wait.
const EFFECTS_FIT_PERCENT: usize = 75;
/// Of the rest, for what other workers may send without being invited again; …
const CHANNELS_PERCENT: usize = 12;
/// … for one call of a remote function: only its reply makes room; …
const CALL_PERCENT: usize = 8;
/// … and for letters that are read back to be invoked.
const PAGE_PERCENT: usize = 5;
/// More than this is not read back at a time, in bytes.
const PAGE_BYTES_MAX: usize = 64 * 1024;
/// Up to this share other workers are invited: what they may send then fits.
const INVITES_PERCENT: usize = 100 - CHANNELS_PERCENT;
/// With so many letters in memory they are not, nor with so much for brokers above that share; with fewer letters there, for a worker that
/// waits to send itself may invite even then.
const LETTERS_PERCENT: usize = 100 - EFFECTS_FIT_PERCENT;
/// Letters that a spilled mailbox keeps in memory, to go on with; none while an address or another worker waits for memory.
const MAILBOX_KEPT_LETTERS: usize = 16;

const _: () =
    assert!(EVICT_DOWN_TO_PERCENT < EVICT_ABOVE_PERCENT && EVICT_ABOVE_PERCENT < FOLD_WANTED_PERCENT);
const _: () = assert!(INTAKE_CLOSES_PERCENT < EFFECTS_FIT_PERCENT && EFFECTS_FIT_PERCENT < INVITES_PERCENT);
const _: () = assert!(EFFECTS_FIT_PERCENT + CHANNELS_PERCENT + CALL_PERCENT + PAGE_PERCENT <= 100);
const _: () =
    assert!(INTAKE_OPENS_PERCENT < INTAKE_CLOSES_PERCENT && FOLD_WANTED_PERCENT < INTAKE_OPENS_PERCENT);
