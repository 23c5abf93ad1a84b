//! What does a board make of it? The bed of `in_process`, driven as a node's shell drives it, with the client beside.

use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use embassy_time::{Duration, Instant};
use fogfun::address::{Address, TypeName};
use fogfun::host::http::HttpClient;
use fogfun::host::inbox::Inbox;
use fogfun::host::shell::Event;
use fogfun::mqtt::config::Qos;
use fogfun::{Context, FunctionError, Module, StatefulFunction, TypedValue, Value as _};

use super::endpoint::Endpoint;
use super::{Figures, Load, Mark, document};
use crate::bed::{Bed, Plan, application, publish};

const COUNT: TypeName = TypeName::from_static("bench/count");
const IDS: u64 = 1_000;
/// Messages that one tick has the source send.
const ROUND: u64 = 100;
/// Ticks that are not acknowledged, at most.
const TICKS_MAX: u64 = 500;
/// Requests of a run that are kept.
const KEPT: usize = 10_000;
/// A run that takes longer is stuck.
const UNTIL_MAX: std::time::Duration = std::time::Duration::from_secs(30);
const INVOCATIONS_PER_TURN: usize = 256;

/// One run, and requests of it.
pub fn run(endpoint: &Endpoint, load: Load) -> (Figures, Vec<Bytes>) {
    let directory = tempfile::tempdir().unwrap();
    let inbox: Arc<Inbox<Event>> = Arc::default();
    let plan = Plan { workers: 1, pause: Duration::from_ticks(0), is_real_time: true };
    let module = Module::new().function("bench/source", Source::new);
    let application = application(module, &module_yaml(endpoint.port, load.batch));
    let endpoints = application.endpoints.clone();
    let roused = Arc::clone(&inbox);
    let mut bed = Bed::start_with(directory.path(), application, &plan, move || roused.rouse());
    bed.settle();
    let executor = Rc::new(smol::LocalExecutor::new());
    let client = HttpClient::new(endpoints, &executor, Arc::clone(&inbox));
    let (calls, invocations) = (endpoint.calls(), endpoint.invocations());
    let mut drive = Drive {
        bed,
        client,
        inbox,
        endpoint,
        invocations_before: invocations,
        load,
        ticks: 0,
        events: VecDeque::new(),
        kept: Vec::new(),
        timer: None,
    };
    let figures = smol::block_on(executor.run(async {
        drive.until(true, |drive| calls + load.calls / 4 <= drive.endpoint.calls()).await;
        let begin = Mark::now(endpoint, &drive.client);
        drive.until(true, |drive| begin.calls + load.calls <= drive.endpoint.calls()).await;
        let end = Mark::now(endpoint, &drive.client);
        drive.until(false, |drive| drive.bed.counts.published == ROUND * drive.ticks).await;
        end.since(&begin)
    }));
    assert_eq!(endpoint.invocations() - invocations, ROUND * drive.ticks, "each message once");
    assert!(drive.kept.len() == KEPT, "a longer run has requests to keep");
    (figures, drive.kept)
}

struct Drive<'a> {
    bed: Bed,
    client: HttpClient,
    inbox: Arc<Inbox<Event>>,
    endpoint: &'a Endpoint,
    invocations_before: u64,
    load: Load,
    ticks: u64,
    events: VecDeque<Event>,
    kept: Vec<Bytes>,
    timer: Option<(Instant, smol::Timer)>,
}

impl Drive<'_> {
    /// Goes on, with new work or without, until `is_done`.
    async fn until(&mut self, is_fed: bool, is_done: impl Fn(&Self) -> bool) {
        let late = async {
            smol::Timer::after(UNTIL_MAX).await;
            false
        };
        let done = async {
            self.go_on(is_fed, is_done).await;
            true
        };
        let is_in_time = smol::future::or(done, late).await;
        assert!(is_in_time, "stuck: {:?}, {} ticks, {:?}", self.bed.counts, self.ticks, self.client);
    }

    async fn go_on(&mut self, is_fed: bool, is_done: impl Fn(&Self) -> bool) {
        while !is_done(self) {
            self.inbox.take(&mut self.events);
            while let Some(event) = self.events.pop_front() {
                let Event::Called { worker, call, outcome } = event else { panic!("{event:?}") };
                self.bed.called(worker, call, outcome);
                self.call();
            }
            if is_fed {
                self.feed();
            }
            let more = self.bed.turn(INVOCATIONS_PER_TURN);
            self.call();
            if more {
                smol::future::yield_now().await;
            } else if !is_done(self) {
                self.wait().await;
            }
        }
    }

    fn call(&mut self) {
        for (worker, call) in self.bed.calls.drain(..) {
            if self.kept.len() < KEPT && self.load.calls / 4 < self.endpoint.calls() {
                self.kept.push(call.body.clone());
            }
            self.client.call(worker, call);
        }
    }

    /// Has the source send until enough is waiting.
    fn feed(&mut self) {
        let done = self.endpoint.invocations() - self.invocations_before;
        let mut packets = BytesMut::new();
        while ROUND * self.ticks < done + IDS * u64::from(self.load.batch)
            && self.ticks < self.bed.counts.acknowledged + TICKS_MAX
        {
            let id = u16::try_from(self.ticks % 60_000 + 1).unwrap();
            publish("in/0", b"1", Qos::AtLeastOnce, id, &mut packets);
            self.ticks += 1;
        }
        if !packets.is_empty() {
            self.bed.receive(0, packets.freeze());
            self.bed.drain();
        }
    }

    /// Until something comes or is due. As in a node, a timer that is set too early stays.
    async fn wait(&mut self) {
        let Self { bed, inbox, timer, .. } = self;
        let due = bed.poll_timeout();
        poll_fn(|context| {
            if inbox.is_ready(context.waker()) {
                return Poll::Ready(());
            }
            let Some(due) = due else { return Poll::Pending };
            let now = bed.wall_now();
            if due <= now {
                return Poll::Ready(());
            }
            if timer.as_ref().is_none_or(|(at, _)| *at <= now || due < *at) {
                let micros = (due - now).as_micros();
                *timer = Some((due, smol::Timer::after(std::time::Duration::from_micros(micros))));
            }
            let Some((_, kept)) = timer else { return Poll::Pending };
            let polled = Pin::new(kept).poll(context).map(drop);
            if polled.is_ready() {
                *timer = None;
            }
            polled
        })
        .await;
    }
}

/// Sends a round to the next ids.
struct Source {
    targets: Vec<Address>,
    next: usize,
}

impl Source {
    fn new() -> Self {
        let targets = (0..IDS).map(|id| Address::new(COUNT, &id.to_string()).unwrap()).collect();
        Self { targets, next: 0 }
    }
}

impl StatefulFunction for Source {
    fn invoke(&mut self, context: &mut Context<'_>, _message: &TypedValue) -> Result<(), FunctionError> {
        for _ in 0..ROUND {
            self.next = (self.next + 1) % self.targets.len();
            context.send(self.targets[self.next].clone(), 1_i64)?;
        }
        Ok(())
    }
}

fn module_yaml(port: u16, batch: u32) -> String {
    let (functions, string) = (document(port, batch), String::TYPENAME);
    format!(
        "{functions}---\nkind: fogfun.mqtt.v1/ingress\nspec:\n  id: bench/in\n  address: mqtt://broker\n  topics:\n    - topic: in/{{id}}\n      \
         qos: 1\n      format: raw\n      valueType: {string}\n      id: {{capture: id}}\n      targets: [bench/source]\n\
         ---\nkind: fogfun.mqtt.v1/egress\nspec:\n  id: bench/out\n  address: mqtt://broker\n  topic: out/{{caller.id}}\n  \
         qos: 0\n  format: number\n"
    )
}
