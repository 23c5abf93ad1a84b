//! Do the counters' books balance? Records are published while things fail; then every state, every sequence and every dead letter counts.

use std::collections::{BTreeMap, BTreeSet};

use embassy_time::Duration;

use super::meddler::Meddler;
use super::{Case, Manner, settle};
use crate::admin::{AdminReply, AdminRequest};
use crate::mqtt::codec::Publish;
use crate::mqtt::config::Qos;
use crate::sim::client::{Client, message_id_of};
use crate::sim::counting::{
    FAILS, FAILS_ONCE, PANICS, check_sequences, counting, counting_remotely, mirror_of, mirrored,
    without_repeats,
};
use crate::sim::endpoint::Endpoint;
use crate::sim::simulation::sabotage::Sabotage;
use crate::sim::simulation::{Faults, Plan, Recorder, Simulation};
use crate::sim::swarm::{self, Trouble, below};
use crate::typed_value::Value;
use crate::worker::io::WorkerIndex;

/// Ids to which records go.
pub(super) const IDS: u64 = 7;
/// The places of the clients.
pub(super) const PUBLISHER: usize = 0;
pub(super) const SUBSCRIBER: usize = 1;

/// What is published and how, drawn from the seed but for what a case fixes.
struct Scenario {
    plan: Plan,
    qos_in: Qos,
    qos_out: Qos,
    records: u64,
    /// Are the functions in another process?
    remote: bool,
    /// Do some of them fail?
    fails: bool,
    /// Does the broker lose the egress session now and then? Then repeats are possible.
    loses_sessions: bool,
    /// Are the broker's queues so short that it drops records?
    drops: bool,
    /// Are records published much faster than they are worked off?
    bursts: bool,
    meddles: bool,
}

/// Publishes under faults, heals, and checks the books.
pub(super) fn run(case: &Case, recorder: Option<Recorder>) -> Result<Simulation, String> {
    Scenario::new(case).run(recorder)
}

impl Scenario {
    fn new(case: &Case) -> Self {
        let mut random = fastrand::Rng::with_seed(case.seed ^ 0xface);
        let qos = [Qos::ExactlyOnce, Qos::ExactlyOnce, Qos::AtLeastOnce];
        let mut scenario = Self {
            plan: case.plan(case.seed),
            qos_in: qos[below(&mut random, 3)],
            qos_out: qos[below(&mut random, 3)],
            records: case.records,
            remote: random.u8(0..3) == 0 && !case.leaves_out(Trouble::RemoteFunction),
            fails: random.bool() && !case.leaves_out(Trouble::FailingFunction),
            loses_sessions: random.u8(0..8) == 0 && !case.leaves_out(Trouble::LostSession),
            meddles: random.bool() && !case.leaves_out(Trouble::Meddler),
            drops: random.u8(0..8) == 0 && !case.leaves_out(Trouble::FullQueue),
            bursts: false,
        };
        if scenario.drops {
            scenario.plan.faults.broker.queue_max = QUEUE_FEW;
            scenario.bursts = true;
        }
        let floods = random.u8(0..8) == 0 && !case.leaves_out(Trouble::Flood);
        if floods && case.manner == Manner::Swarm {
            scenario.flood();
            scenario.bursts |= random.bool();
        }
        match case.manner {
            Manner::Swarm => scenario,
            Manner::Plain(sabotage) => scenario.plain(sabotage),
        }
    }

    /// QoS 2 both ways and crashes, nothing else: where planted mistakes are looked for; and what one of them needs to show.
    fn plain(mut self, sabotage: Sabotage) -> Self {
        self.plan.faults = Faults::default();
        self.plan.crash_one_in = 300;
        self.plan.store_crash_one_in = 20;
        (self.qos_in, self.qos_out) = (Qos::ExactlyOnce, Qos::ExactlyOnce);
        self.remote = false;
        (self.fails, self.loses_sessions, self.drops, self.meddles) = (false, false, false, false);
        self.bursts = false;
        if sabotage == Sabotage::GuardOutlives {
            // Without deaths: where a broker uses packet ids again at once, a record that it sends again after a death cannot be told
            // from the equal one before it.
            self.plan.faults.broker.packet_ids_max = PACKET_IDS_FEW;
            (self.plan.crash_one_in, self.plan.store_crash_one_in) = (0, 0);
            self.plan.disconnect_one_in = 0;
        }
        if sabotage == Sabotage::SharesNoMemory {
            self.flood();
        }
        if matches!(sabotage, Sabotage::HearsOldSession | Sabotage::HidesLosses) {
            // Sessions are lost, and connections with what was under way on them.
            self.loses_sessions = true;
            self.plan.faults.loses_tails = true;
            self.plan.disconnect_one_in = 20;
        }
        self
    }

    /// Many records for little memory, and epochs that are long.
    fn flood(&mut self) {
        self.records *= FLOOD_RECORDS;
        self.plan.limits.memory_bytes = swarm::MEMORY_BYTES_LITTLE;
        self.plan.pause = Duration::from_millis(20);
        self.plan.fit_memory();
    }

    fn run(self, recorder: Option<Recorder>) -> Result<Simulation, String> {
        let seed = self.plan.seed;
        let mut subscriber = Client::connect("subscriber");
        subscriber.subscribe("out/#");
        subscriber.subscribe("mirror/#");
        let clients = vec![Client::connect("publisher"), subscriber];
        let (qos_in, qos_out) = (self.qos_in as u8, self.qos_out as u8);
        let (application, endpoint) = match self.remote {
            true => counting_remotely(qos_in, qos_out),
            false => (counting(qos_in, qos_out), Endpoint::new(|_| None, Vec::new())),
        };
        let egress = application.sessions.iter().position(|session| session.name.as_str() == "sim/out");
        let simulation = Simulation::new(self.plan.clone(), application, clients);
        let mut simulation = simulation.with_endpoint(endpoint);
        simulation.set_recorder(recorder);
        let mut random = fastrand::Rng::with_seed(seed ^ 0x5eed);
        if !simulation.run_until_subscribed() {
            return Err("the ingress never subscribes".to_owned());
        }
        let mut published = BTreeMap::<String, i64>::new();
        let mut meddler = Meddler::new(seed);
        for number in 0..self.records {
            let id = random.u64(0..IDS).to_string();
            let properties = vec![("n".to_owned(), number.to_string())];
            let payload = match random.u8(0..30) {
                0 if self.fails => FAILS,
                1 if self.fails => PANICS,
                2..6 if self.fails => FAILS_ONCE,
                _ => "counts",
            };
            let topic = format!("in/{id}");
            simulation.client(PUBLISHER).publish(&topic, payload.as_bytes(), self.qos_in, properties);
            *published.entry(id).or_default() += 1;
            if let (true, 0, Some(egress)) = (self.loses_sessions, random.u8(0..50), egress) {
                simulation.lose_session(egress);
            }
            if self.meddles {
                meddler.meddle(&mut simulation)?;
            }
            let pause = Duration::from_micros(random.u64(0..20_000) / if self.bursts { 50 } else { 1 });
            simulation.run_until(simulation.now() + pause);
        }
        simulation.heal();
        simulation.client(SUBSCRIBER).set_reading(true);
        let settled = settle(&mut simulation, |simulation| self.check(simulation, &published));
        settled
            .and_then(|()| meddler.check(&mut simulation))
            .map_err(|error| self.explained(&mut simulation, &error))?;
        Ok(simulation)
    }

    /// What was published was applied, or is a dead letter; and it came out once, in order.
    fn check(&self, simulation: &mut Simulation, published: &BTreeMap<String, i64>) -> Result<(), String> {
        let dead = dead_letters(simulation)?;
        let counts: BTreeMap<String, i64> = published
            .iter()
            .map(|(id, count)| (id.clone(), count - dead.get(id).copied().unwrap_or(0)))
            .collect();
        if self.drops {
            self.check_drops(simulation, &counts)
        } else {
            self.check_counts(simulation, &counts)
        }
    }

    /// Where records were dropped: in = applied + dropped, out = emitted − dropped, and the broker has counted all of them.
    fn check_drops(&self, simulation: &mut Simulation, counts: &BTreeMap<String, i64>) -> Result<(), String> {
        let has_repeats = self.qos_out == Qos::AtLeastOnce || self.loses_sessions;
        let received = simulation.client(SUBSCRIBER).received().to_vec();
        let received = if has_repeats { without_repeats(&received) } else { received };
        let (mut missing, mut late) = (0, 0);
        for (id, &count) in counts {
            let mirror = mirror_of(id);
            let found = count_of(simulation, "sim/counter", id);
            let found_of_mirror = count_of(simulation, "sim/mirror", &mirror);
            if count < found || found_of_mirror != mirrored(found) {
                return Err(format!("{id} counts {found} and {found_of_mirror}, of {count}"));
            }
            missing += count - found;
            for (topic, emitted) in
                [(format!("out/{id}"), found), (format!("mirror/{mirror}"), found_of_mirror)]
            {
                let of_topic = Arrivals::of(&received, &topic, emitted)?;
                missing += emitted - of_topic.came;
                late += of_topic.late;
                if 0 < of_topic.late && !has_repeats {
                    return Err(format!("{topic}: {} came after a later one", of_topic.late));
                }
            }
        }
        let dropped = i64::try_from(simulation.dropped_by_broker()).unwrap_or(i64::MAX);
        let told = if self.loses_sessions { losses_told(simulation, &received).values().sum() } else { 0 };
        // A repeat may be dropped whose record was there already; a record that is late was dropped the first time.
        let lost_at_most = dropped + told;
        let is_right = if has_repeats { missing + late <= lost_at_most } else { missing == dropped };
        if is_right {
            Ok(())
        } else {
            Err(format!("{missing} records are missing and {late} late, the broker dropped {dropped}"))
        }
    }

    fn check_counts(
        &self,
        simulation: &mut Simulation,
        counts: &BTreeMap<String, i64>,
    ) -> Result<(), String> {
        let both = |(id, &count): (&String, &i64)| {
            [(format!("out/{id}"), count), (format!("mirror/{}", mirror_of(id)), mirrored(count))]
        };
        let expected: BTreeMap<String, i64> = counts.iter().flat_map(both).collect();
        let received = simulation.client(SUBSCRIBER).received().to_vec();
        if self.qos_out == Qos::AtLeastOnce || self.loses_sessions {
            let records = without_repeats(&received);
            let checked = check_sequences(&records, &expected);
            if checked.is_err() && !(self.loses_sessions && is_loss_told(simulation, &records, &expected)) {
                return checked;
            }
        } else {
            check_sequences(&received, &expected)?;
        }
        for (id, &count) in counts {
            let mirror = mirror_of(id);
            let found = count_of(simulation, "sim/counter", id);
            let found_of_mirror = count_of(simulation, "sim/mirror", &mirror);
            if (found, found_of_mirror) != (count, mirrored(count)) {
                return Err(format!("{id} counts {found} and {found_of_mirror}, not {count}"));
            }
        }
        Ok(())
    }

    /// With what came on the topic that the error begins with, and how the workers are.
    fn explained(&self, simulation: &mut Simulation, error: &str) -> String {
        let topic = error.split(':').next().unwrap_or_default();
        let received = simulation.client(SUBSCRIBER).received().iter();
        let came: Vec<String> = received
            .filter(|publish| publish.topic == topic.as_bytes())
            .map(|publish| format!("{:?} {:?}", publish.payload, publish.user_properties))
            .collect();
        let counts = simulation.counts;
        format!("{error}; {counts:?}; {came:?}; {:?}", status(simulation))
    }
}

/// How the records of a topic came, repeats left out: each once.
struct Arrivals {
    came: i64,
    /// After one that was sent later.
    late: i64,
}

impl Arrivals {
    fn of(received: &[Publish], topic: &str, most: i64) -> Result<Self, String> {
        let (mut last, mut seen, mut arrivals) = (0, BTreeSet::new(), Self { came: 0, late: 0 });
        for publish in received.iter().filter(|publish| publish.topic == topic.as_bytes()) {
            let count = String::from_utf8_lossy(&publish.payload).parse::<i64>().unwrap_or(-1);
            if !(1..=most).contains(&count) || !seen.insert(count) {
                return Err(format!("{topic}: {count} came after {last}, of {most}"));
            }
            arrivals.came += 1;
            arrivals.late += i64::from(count < last);
            last = last.max(count);
        }
        Ok(arrivals)
    }
}

/// Packet ids of a broker: more than are under way at a time, fewer than a run needs.
const PACKET_IDS_FEW: u16 = 29;
/// A flood has so many times the records.
const FLOOD_RECORDS: u64 = 4;
/// Records that a short queue of the broker holds.
const QUEUE_FEW: usize = 8;

/// What the log names as lost, perhaps, and has not come: how many by topic (docs/decisions/0007-releases-after-a-lost-session.md).
fn losses_told(simulation: &Simulation, received: &[Publish]) -> BTreeMap<String, i64> {
    let told = simulation.told.get("release-unproven").map(Vec::as_slice).unwrap_or_default();
    let named = told.iter().filter_map(|text| {
        let (place, rest) = text.split_once(": message ")?;
        Some((place.rsplit(": ").next()?, rest.split(' ').next()?))
    });
    let came: BTreeSet<&str> = received.iter().filter_map(message_id_of).collect();
    let mut losses = BTreeMap::new();
    for (topic, id) in named.collect::<BTreeSet<_>>() {
        *losses.entry(topic.to_owned()).or_default() += i64::from(!came.contains(id));
    }
    losses
}

/// Came all but records that the log names, the last of a topic perhaps among them, and in order?
fn is_loss_told(simulation: &Simulation, received: &[Publish], expected: &BTreeMap<String, i64>) -> bool {
    let losses = losses_told(simulation, received);
    expected.iter().all(|(topic, &expected)| {
        let lost_at_most = losses.get(topic).copied().unwrap_or(0);
        Arrivals::of(received, topic, expected)
            .is_ok_and(|arrivals| arrivals.late == 0 && expected - arrivals.came <= lost_at_most)
    })
}

/// How every worker is.
pub(super) fn status(simulation: &mut Simulation) -> Vec<Option<AdminReply>> {
    (0..simulation.workers())
        .map(|worker| simulation.ask(&AdminRequest::Status, WorkerIndex(worker)))
        .collect()
}

/// Dead letters of counters, by id; those of mirrors are none of a person's doing.
fn dead_letters(simulation: &mut Simulation) -> Result<BTreeMap<String, i64>, String> {
    let question = AdminRequest::DeadLetterList { after: None, entries_max: u32::MAX };
    let mut dead = BTreeMap::new();
    for worker in 0..simulation.workers() {
        if let Some(AdminReply::DeadLetters { letters, .. }) = simulation.ask(&question, WorkerIndex(worker))
        {
            for letter in letters {
                if letter.function_type != "sim/counter" {
                    return Err(format!("a dead letter that should not be: {letter:?}"));
                }
                *dead.entry(letter.id).or_default() += 1;
            }
        }
    }
    Ok(dead)
}

/// The state `count` of an address; 0 if there is none.
pub(super) fn count_of(simulation: &mut Simulation, function_type: &str, id: &str) -> i64 {
    state_of(simulation, function_type, id, "count").unwrap_or(0)
}

/// A state of an address.
pub(in crate::sim) fn state_of<T: Value>(
    simulation: &mut Simulation,
    function_type: &str,
    id: &str,
    name: &str,
) -> Option<T> {
    let question = AdminRequest::StateGet {
        function_type: function_type.to_owned(),
        id: id.to_owned(),
        name: name.to_owned(),
    };
    match simulation.ask_owner(id, &question)? {
        AdminReply::State { entries, .. } => {
            let entry = entries.first()?;
            T::decode(&data_encoding::BASE64.decode(entry.value.bytes.as_bytes()).ok()?).ok()
        }
        _ => None,
    }
}
