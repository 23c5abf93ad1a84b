//! How warm are the simulated fridges? A compressor holds them near four degrees; doors are opened, and at times left open.
//!
//! Pure and from a seed: time is told with each step.

use fastrand::Rng;

/// Room temperature, towards which a fridge with an open door drifts, in degrees Celsius.
const ROOM_CELSIUS: f64 = 21.0;
/// What a closed fridge drifts towards.
const INSIDE_CELSIUS: f64 = 4.0;
/// Part of the difference that is gone after a second with the door open.
const WARMING_PER_SECOND: f64 = 0.25;
/// The same with the door closed; a demo's fridge has a strong compressor.
const COOLING_PER_SECOND: f64 = 0.9;
/// How often a door is opened, per second.
const OPENED_PER_SECOND: f64 = 0.12;
/// Of so many openings one is forgotten.
const FORGOTTEN_OF: u32 = 2;
/// Rooms in which the fridges stand.
const NAMES: [&str; 12] = [
    "kitchen", "cellar", "garage", "bar", "office", "studio", "garden", "attic", "bakery", "clinic",
    "canteen", "camper",
];

/// Fridges in a house without discipline.
#[derive(Debug)]
pub(super) struct Fridges {
    random: Rng,
    fridges: Vec<SimulatedFridge>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct SimulatedFridge {
    pub(super) name: String,
    pub(super) celsius: f64,
    /// How long the door stays open still, in seconds; 0 if it is closed.
    open_seconds: f64,
}

impl Fridges {
    /// So many fridges with closed doors.
    pub(super) fn new(count: usize, seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let fridges = (0..count).map(|index| SimulatedFridge {
            name: name_of(index),
            celsius: INSIDE_CELSIUS + random.f64() * 2.0,
            open_seconds: 0.0,
        });
        let fridges = fridges.collect();
        Self { random, fridges }
    }

    /// Lets `seconds` pass.
    pub(super) fn advance(&mut self, seconds: f64) {
        for fridge in &mut self.fridges {
            if fridge.is_open() {
                fridge.open_seconds = (fridge.open_seconds - seconds).max(0.0);
            } else if self.random.f64() < OPENED_PER_SECOND * seconds {
                let is_forgotten = self.random.u32(0..FORGOTTEN_OF) == 0;
                let longest = if is_forgotten { 6.0 } else { 1.0 };
                fridge.open_seconds = longest * (0.5 + self.random.f64() / 2.0);
            }
            let (towards, part) = if fridge.is_open() {
                (ROOM_CELSIUS, WARMING_PER_SECOND)
            } else {
                (INSIDE_CELSIUS, COOLING_PER_SECOND)
            };
            let noise = (self.random.f64() - 0.5) * 0.2;
            fridge.celsius += (towards - fridge.celsius) * (part * seconds).min(1.0) + noise;
        }
    }

    /// All of them, in a fixed order.
    pub(super) fn all(&self) -> &[SimulatedFridge] {
        &self.fridges
    }
}

impl SimulatedFridge {
    /// Does the door stand open?
    pub(super) fn is_open(&self) -> bool {
        0.0 < self.open_seconds
    }

    /// What its thermometer shows: a decimal number with one place.
    pub(super) fn reading(&self) -> String {
        format!("{:.1}", self.celsius)
    }
}

/// `kitchen`, … and, once the names are used up, `kitchen-2`, …
fn name_of(index: usize) -> String {
    let (round, place) = (index / NAMES.len(), index % NAMES.len());
    let name = NAMES.get(place).copied().unwrap_or("fridge");
    match round {
        0 => name.to_owned(),
        _ => format!("{name}-{}", round + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fridges_have_names_of_their_own_and_repeat_from_their_seed() {
        let (mut one, mut other) = (Fridges::new(30, 7), Fridges::new(30, 7));
        let names: std::collections::BTreeSet<&str> =
            one.all().iter().map(|fridge| fridge.name.as_str()).collect();
        assert_eq!(names.len(), 30);
        for _ in 0..100 {
            one.advance(0.05);
            other.advance(0.05);
        }
        let readings =
            |fridges: &Fridges| fridges.all().iter().map(SimulatedFridge::reading).collect::<Vec<_>>();
        assert_eq!(readings(&one), readings(&other));
    }

    #[test]
    fn some_get_warm_and_all_stay_between_inside_and_room() {
        let mut fridges = Fridges::new(8, 3);
        let mut warmest = f64::MIN;
        for _ in 0..1000 {
            fridges.advance(0.05);
            for fridge in fridges.all() {
                assert!((0.0..25.0).contains(&fridge.celsius), "{}", fridge.celsius);
                warmest = warmest.max(fridge.celsius);
            }
        }
        assert!(8.0 < warmest, "no door was left open: {warmest}");
    }
}
