//! What happens when? Events are published, the node dies and comes back, the books are kept, the table is drawn, all in one loop.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use super::books::Books;
use super::fridges::Fridges;
use super::network::{self, Event, Network};
use super::node::{Node, Scratch};
use super::screen::Screen;
use super::table::{ROWS_MAX, Row, View, grouped};
use super::{DemoEnd, Plan};
use crate::mqtt::codec::MESSAGE_ID_PROPERTY;
use crate::mqtt::config::Qos;

/// Each fridge publishes once in this time.
const READING_PERIOD: Duration = Duration::from_millis(50);
/// A kill comes within this time behind a burst of readings, while the node works at it.
const BEHIND_A_BURST: Duration = Duration::from_millis(2);
/// A dead node stays dead so long, for a person to see it.
const DEATH: Duration = Duration::from_millis(300);
/// In the quick succession a node that was just started lives so long: it is killed while it recovers or catches up.
const SHORT_LIFE: Duration = Duration::from_millis(60);
/// A node may take so long to subscribe, and so long without progress to count the last events.
const PATIENCE: Duration = Duration::from_secs(20);
/// After all is counted, so long something may come twice.
const LISTEN_ON: Duration = Duration::from_millis(500);
/// Things that happened are kept for the table.
const NEWS_MAX: usize = 50;

/// Why a demo cannot go on: this machine's fault or the node's, not the books'.
#[derive(Debug, thiserror::Error)]
pub(super) enum DemoError {
    #[error("the demo's broker or directory cannot be set up: {0}")]
    SetUp(#[source] io::Error),
    #[error("the node cannot be started: {0}")]
    Start(#[source] io::Error),
    #[error("the node cannot be ended: {0}")]
    Kill(#[source] io::Error),
    #[error("the node ended by itself ({status}); the last it said:\n{words}")]
    Ended { status: String, words: String },
    #[error("the node has not subscribed after {} s; the last it said:\n{words}", PATIENCE.as_secs())]
    Silent { words: String },
}

/// Plays the whole of it.
///
/// # Errors
/// If it cannot be set up, or the node does not run.
pub(super) fn play(plan: &Plan) -> Result<DemoEnd, DemoError> {
    let mut stage = Stage::new(plan)?;
    match stage.play() {
        Ok(()) => Ok(stage.finish()),
        Err(Stop::Interrupted) => Ok(DemoEnd::Interrupted),
        Err(Stop::Failed(error)) => Err(error),
    }
}

/// Everything on the stage. The node is dropped before its directory.
struct Stage<'a> {
    plan: &'a Plan,
    network: Network,
    events: Receiver<Event>,
    node: Node,
    _scratch: Scratch,
    fridges: Fridges,
    books: Books,
    screen: Screen,
    news: Vec<String>,
    begin: Instant,
    kills: u64,
    /// Until the node's first record after a start.
    coming_back: Option<ComingBack>,
    restarts: Vec<Duration>,
    /// Between a kill and the next start.
    start_at: Option<Instant>,
    /// When the node is to be killed, in order.
    kill_at: VecDeque<Instant>,
    published: u64,
    stopped_with: Option<String>,
}

/// A node that has been started and has not yet sent a record.
struct ComingBack {
    since: Instant,
    /// What came from sockets of the dead process does not count.
    is_connected: bool,
}

/// Why the play is broken off.
enum Stop {
    Interrupted,
    Failed(DemoError),
}

impl From<DemoError> for Stop {
    fn from(error: DemoError) -> Self {
        Self::Failed(error)
    }
}

impl<'a> Stage<'a> {
    fn new(plan: &'a Plan) -> Result<Self, DemoError> {
        let (sender, events) = mpsc::channel();
        network::watch_signals(sender.clone()).map_err(DemoError::SetUp)?;
        let network = Network::listen(sender).map_err(DemoError::SetUp)?;
        let scratch = Scratch::new().map_err(DemoError::SetUp)?;
        let node = Node::new(&scratch, &plan.module_yaml(network.port())).map_err(DemoError::SetUp)?;
        Ok(Self {
            plan,
            network,
            events,
            node,
            _scratch: scratch,
            fridges: Fridges::new(plan.fridges, fastrand::u64(..)),
            books: Books::default(),
            screen: Screen::new(plan.style),
            news: Vec::new(),
            begin: Instant::now(),
            kills: 0,
            coming_back: None,
            restarts: Vec::new(),
            start_at: None,
            kill_at: VecDeque::new(),
            published: 0,
            stopped_with: None,
        })
    }

    fn play(&mut self) -> Result<(), Stop> {
        self.node.start().map_err(DemoError::Start)?;
        self.wait_subscribed()?;
        self.begin = Instant::now();
        self.kill_at = kill_times(self.begin, self.plan.time, self.plan.kills);
        self.publish_for_the_time()?;
        self.count_the_rest()?;
        self.stop_the_node()
    }

    fn wait_subscribed(&mut self) -> Result<(), Stop> {
        let deadline = Instant::now() + PATIENCE;
        while !self.network.is_subscribed() {
            if deadline < Instant::now() {
                let words = self.node.last_words();
                return Err(DemoError::Silent { words }.into());
            }
            self.turn(Instant::now() + READING_PERIOD)?;
        }
        Ok(())
    }

    fn publish_for_the_time(&mut self) -> Result<(), Stop> {
        let end = self.begin + self.plan.time;
        let mut next = self.begin;
        while next < end {
            self.publish_readings();
            next += READING_PERIOD;
            self.live_until(next)?;
        }
        Ok(())
    }

    /// Until everything is counted; then listens whether anything comes twice.
    fn count_the_rest(&mut self) -> Result<(), Stop> {
        let mut counted = self.books.totals.counted;
        let mut deadline = Instant::now() + PATIENCE;
        let is_idle = |stage: &Self| stage.start_at.is_none() && stage.kill_at.is_empty();
        while !(self.books.is_complete() && is_idle(self)) && Instant::now() < deadline {
            self.live_until(Instant::now() + READING_PERIOD)?;
            if counted < self.books.totals.counted {
                counted = self.books.totals.counted;
                deadline = Instant::now() + PATIENCE;
            }
        }
        self.live_until(Instant::now() + LISTEN_ON)
    }

    fn stop_the_node(&mut self) -> Result<(), Stop> {
        self.node.stop().map_err(DemoError::Kill)?;
        let deadline = Node::end_deadline();
        while Instant::now() < deadline {
            if let Some(status) = self.node.ended() {
                if !status.success() {
                    self.stopped_with = Some(status.to_string());
                }
                return self.take_events(Instant::now());
            }
            self.take_events(Instant::now() + READING_PERIOD)?;
        }
        self.stopped_with = Some("had to be killed".to_owned());
        self.node.kill().map_err(DemoError::Kill)?;
        Ok(())
    }

    fn publish_readings(&mut self) {
        self.fridges.advance(READING_PERIOD.as_secs_f64());
        self.published += 1;
        for fridge in self.fridges.all() {
            let reading = fridge.reading();
            let topic = format!("fridge/{}/temperature", fridge.name);
            self.books.on_sent(&fridge.name, reading.parse().unwrap_or_default());
            let message_id = self.published.to_string();
            self.network.publish(&topic, &reading, self.plan.qos, message_id);
        }
    }

    /// Kills and starts what is due, and takes what comes, until `end`.
    fn live_until(&mut self, end: Instant) -> Result<(), Stop> {
        loop {
            let now = Instant::now();
            if self.kill_at.front().is_some_and(|at| *at <= now) {
                self.kill_at.pop_front();
                self.kill()?;
            }
            if self.start_at.is_some_and(|at| at <= now) {
                self.start_at = None;
                self.start()?;
            }
            if end <= now {
                return Ok(());
            }
            let due = [self.kill_at.front().copied(), self.start_at];
            let next = due.into_iter().flatten().fold(end, Instant::min);
            self.turn(next)?;
        }
    }

    /// Takes what comes until `next`; sees whether the node still runs; draws.
    fn turn(&mut self, next: Instant) -> Result<(), Stop> {
        self.take_events(next)?;
        if let Some(status) = self.node.ended() {
            let (status, words) = (status.to_string(), self.node.last_words());
            return Err(DemoError::Ended { status, words }.into());
        }
        if self.screen.is_due() {
            self.show();
        }
        Ok(())
    }

    fn take_events(&mut self, until: Instant) -> Result<(), Stop> {
        while let Some(event) = network::next_event(&self.events, until) {
            match (&event, &mut self.coming_back) {
                (Event::Interrupted, _) => return Err(Stop::Interrupted),
                (Event::Accepted(..), Some(coming_back)) => coming_back.is_connected = true,
                _ => {}
            }
            self.network.handle(event);
            self.take_records();
            if until <= Instant::now() {
                break;
            }
        }
        Ok(())
    }

    fn take_records(&mut self) {
        let records = self.network.take_received();
        if !records.is_empty()
            && let Some(back) = self.coming_back.take_if(|coming_back| coming_back.is_connected)
        {
            let time = back.since.elapsed();
            self.restarts.push(time);
            self.tell(format!("back at work {} ms after its start", time.as_millis()));
        }
        for record in records {
            let message_id = (record.user_properties.iter())
                .find(|(name, _)| name == MESSAGE_ID_PROPERTY)
                .map(|(_, id)| id.as_str());
            let message_id = message_id.filter(|_| self.plan.qos != Qos::ExactlyOnce);
            let topic = String::from_utf8_lossy(&record.topic);
            self.books.on_record(&topic, &record.payload, message_id);
        }
    }

    fn kill(&mut self) -> Result<(), DemoError> {
        // One that was to be started next is killed as soon as it is there.
        if self.node.process_id().is_none() {
            self.start_at = None;
            self.start()?;
        }
        let process = self.node.process_id().unwrap_or_default();
        self.node.kill().map_err(DemoError::Kill)?;
        self.kills += 1;
        self.coming_back = None;
        self.tell(format!("kill -9 {process}: the node is dead"));
        // The quick succession: it is started at once, for a short life.
        let is_next_soon =
            (self.kill_at.front()).is_some_and(|next| *next <= Instant::now() + DEATH + SHORT_LIFE);
        let death = if is_next_soon { Duration::ZERO } else { DEATH };
        self.start_at = Some(Instant::now() + death);
        Ok(())
    }

    fn start(&mut self) -> Result<(), DemoError> {
        let since = Instant::now();
        self.node.start().map_err(DemoError::Start)?;
        self.coming_back = Some(ComingBack { since, is_connected: false });
        Ok(())
    }

    fn tell(&mut self, what: String) {
        let news = format!("{:>5.1} s  {what}", self.begin.elapsed().as_secs_f64());
        self.screen.tell(&news);
        self.news.push(news);
        if NEWS_MAX < self.news.len() {
            self.news.remove(0);
        }
    }

    fn show(&mut self) {
        let totals = &self.books.totals;
        let process = match self.node.process_id() {
            Some(id) => format!("node {id}"),
            None if self.start_at.is_some() => "node DEAD".to_owned(),
            None => "node stopped".to_owned(),
        };
        let seconds = self.begin.elapsed().min(self.plan.time).as_secs_f64();
        let faults = totals.lost + totals.doubled + totals.out_of_order + totals.wrong;
        let sums = format!(
            "{seconds:>5.1} s  sent {}, counted {}, under way {}; {} kills, {faults} faults",
            grouped(totals.sent),
            grouped(totals.counted),
            grouped(totals.sent.saturating_sub(totals.counted)),
            self.kills,
        );
        let view = View {
            title: format!(
                "FogFun demo: {} fridges, QoS {}, {process}",
                self.plan.fridges, self.plan.qos as u8
            ),
            rows: self.rows(),
            more: self.plan.fridges.saturating_sub(ROWS_MAX),
            sums,
            news: &self.news,
        };
        self.screen.show(&view);
    }

    fn rows(&self) -> Vec<Row> {
        let row = |fridge: &super::fridges::SimulatedFridge| {
            let account = self.books.account(&fridge.name)?;
            let statistics = &account.statistics;
            Some(Row {
                name: fridge.name.clone(),
                is_open: fridge.is_open(),
                celsius: fridge.celsius,
                readings: statistics.count,
                minimum: statistics.minimum,
                mean: statistics.mean,
                maximum: statistics.maximum,
                alarms: account.alarms,
                is_alarmed: account.is_alarmed,
            })
        };
        self.fridges.all().iter().take(ROWS_MAX).filter_map(row).collect()
    }

    /// Draws the last table and says what the books come to.
    fn finish(mut self) -> DemoEnd {
        self.show();
        let totals = &self.books.totals;
        let is_balanced = totals.is_balanced() && self.stopped_with.is_none();
        let longest = self.restarts.iter().max().copied().unwrap_or_default();
        let milliseconds: Vec<u128> = self.restarts.iter().map(Duration::as_millis).collect();
        let words = self.words(is_balanced, longest);
        let json = serde_json::json!({
            "balanced": is_balanced, "sent": totals.sent, "counted": totals.counted, "lost": totals.lost,
            "doubled": totals.doubled, "out_of_order": totals.out_of_order, "wrong": totals.wrong,
            "repeated": totals.repeated, "alarms": totals.alarms, "kills": self.kills,
            "dropped_by_broker": self.network.dropped(),
            "restart_ms": milliseconds.iter().map(|time| u64::try_from(*time).unwrap_or(u64::MAX)).collect::<Vec<_>>(),
            "stopped_with": self.stopped_with,
        });
        self.screen.finish(&words, &json);
        if is_balanced { DemoEnd::Balanced } else { DemoEnd::Unbalanced }
    }

    fn words(&self, is_balanced: bool, longest: Duration) -> String {
        let totals = &self.books.totals;
        let (sent, counted) = (grouped(totals.sent), grouped(totals.counted));
        let mut words = format!(
            "The node was killed {} times, and at work at most {} ms after each start; {} alarms.\n",
            self.kills,
            longest.as_millis(),
            totals.alarms
        );
        if self.plan.qos != Qos::ExactlyOnce {
            let repeated = grouped(totals.repeated);
            words += &format!("QoS 1 delivered {repeated} records twice, recognised by their message id.\n");
        }
        if let Some(end) = &self.stopped_with {
            words += &format!("Asked to end at last, the node did not do so properly: {end}.\n");
        }
        words += &if is_balanced {
            format!(
                "The books balance: {sent} events sent, {counted} counted, per fridge 1, 2, 3 …: none lost, none twice, all in order."
            )
        } else {
            format!(
                "THE BOOKS DO NOT BALANCE: {sent} events sent, {counted} counted; {} lost, {} twice, {} out of order, {} wrong.",
                totals.lost, totals.doubled, totals.out_of_order, totals.wrong
            )
        };
        words
    }
}

/// Evenly over the time, a little off at random, each just behind a burst of readings, so that it hits records under way; of three
/// or more the third follows upon the second.
fn kill_times(begin: Instant, time: Duration, kills: u64) -> VecDeque<Instant> {
    let mut times = VecDeque::new();
    for index in 0..kills {
        let part = (index as f64 + 0.3 + 0.4 * fastrand::f64()) / kills as f64;
        let at = match (index, times.back()) {
            (2, Some(second)) => *second + SHORT_LIFE,
            _ => {
                begin
                    + READING_PERIOD * bursts_before(time.mul_f64(part))
                    + BEHIND_A_BURST.mul_f64(fastrand::f64())
            }
        };
        times.push_back(at);
    }
    times
}

/// Whole reading periods in a time.
fn bursts_before(time: Duration) -> u32 {
    u32::try_from(time.as_millis() / READING_PERIOD.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_in_order_within_the_time_and_two_in_quick_succession() {
        let (begin, time) = (Instant::now(), Duration::from_secs(10));
        for kills in 0..20 {
            let times: Vec<Instant> = kill_times(begin, time, kills).into();
            assert_eq!(times.len() as u64, kills);
            assert!(times.is_sorted());
            assert!(times.iter().all(|at| begin < *at && *at < begin + time));
            if 3 <= kills {
                assert_eq!(times[2] - times[1], SHORT_LIFE);
            }
        }
    }
}
