//! Promise: any bytes that come from outside are taken or refused; they end no process and take no more memory than is said.
//!
//! For each reader (`tests/hostile/targets.rs`) every input of its corpus is tried as it is, and then changed at random for a while: bits,
//! bytes, lengths, pieces cut out, doubled, and put together from several. `FOGFUN_HOSTILE_SECONDS` is how long, for each reader; `SEED`
//! repeats a run. `tests/fuzz` holds the same readers for cargo-fuzz, which sees which code an input reaches.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say failure by a panic")]
#![allow(unreachable_pub, missing_docs, reason = "the modules are this test's own")]

mod support;
#[path = "hostile/targets.rs"]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use allocation_counter::measure;
use support::{Seeded, say};
use targets::{TARGETS, Target};

/// Bytes of an input at most.
const INPUT_BYTES_MAX: usize = 64 * 1024;
/// The seed of a run that names none.
const SEED: u64 = 0x0F06_F0F0;

#[test]
fn the_epoch_log_takes_any_bytes() {
    attack("epoch_log");
}

#[test]
fn a_session_takes_anything_from_a_broker() {
    attack("mqtt_session");
}

#[test]
fn a_module_may_say_anything() {
    attack("module_yaml");
}

#[test]
fn the_admin_socket_may_be_told_anything() {
    attack("admin");
}

#[test]
fn an_endpoint_may_answer_anything() {
    attack("remote_reply");
}

#[test]
fn keys_and_values_may_be_anything() {
    attack("state");
}

#[test]
fn a_reader_that_holds_too_much_or_panics_is_found() {
    let hoarder = Target {
        name: "admin",
        run: |data| assert!(!vec![1_u8; data.len() * 1_000].is_empty()),
        bytes_max: 1_000,
        bytes_per_byte_max: 100,
    };
    assert!(attempt(&hoarder, &[0; 100]).unwrap_err().contains("bytes at once"));
    let panics = Target { run: |data| assert!(data.is_empty()), ..hoarder };
    assert!(attempt(&panics, &[0]).is_err());
    assert_eq!(attempt(&panics, &[]), Ok(()));
}

fn attack(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "there is a corpus");
    let seconds =
        std::env::var("FOGFUN_HOSTILE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let (begin, length) = (Instant::now(), Duration::from_secs(seconds));
    let mut seeded = Seeded::from_environment(SEED);
    let mut tried = 0_u64;
    for input in &corpus {
        tell(target, input);
    }
    while begin.elapsed() < length {
        tell(target, &changed(&corpus, &mut seeded));
        tried += 1;
    }
    say(&format!("{name}: {} inputs of the corpus, {tried} others", corpus.len()));
}

/// Tries one input; one that fails is kept, and its path said.
fn tell(target: &Target, input: &[u8]) {
    if let Err(text) = attempt(target, input) {
        let path = std::env::temp_dir().join(format!("fogfun-hostile-{}", target.name));
        std::fs::write(&path, input).unwrap();
        panic!("{}: {text}; the input is {}", target.name, path.display());
    }
}

fn attempt(target: &Target, input: &[u8]) -> Result<(), String> {
    let mut ended = Ok(());
    let used = measure(|| ended = catch_unwind(AssertUnwindSafe(|| (target.run)(input))));
    ended.map_err(|_| "it panicked".to_owned())?;
    let bound = target.bytes_max + input.len() * target.bytes_per_byte_max;
    if bound as u64 <= used.bytes_max {
        return Err(format!(
            "{} bytes at once for {}, at most {bound} were said",
            used.bytes_max,
            input.len()
        ));
    }
    Ok(())
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let mut paths: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// An input of the corpus, changed in one to eight ways.
fn changed(corpus: &[Vec<u8>], seeded: &mut Seeded) -> Vec<u8> {
    let any =
        |seeded: &mut Seeded, below: usize| usize::try_from(seeded.within(0, below.max(1) as u64)).unwrap();
    let mut input = corpus[any(seeded, corpus.len())].clone();
    for _ in 0..=any(seeded, 8) {
        let at = any(seeded, input.len() + 1);
        let longest = 1 << any(seeded, 8);
        let until = (at + 1 + any(seeded, longest)).min(input.len()).max(at);
        match any(seeded, 8) {
            0 => drop(input.drain(at..until)),
            1 => input.truncate(at),
            2 => {
                let piece = input[at..until].to_vec();
                input.splice(at..at, piece);
            }
            3 => {
                let other = &corpus[any(seeded, corpus.len())];
                let from = any(seeded, other.len());
                let piece = other[from..(from + any(seeded, 64)).min(other.len())].to_vec();
                input.splice(at..at, piece);
            }
            4 => {
                let number = [0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, u64::from(u32::MAX), u64::MAX][any(seeded, 8)];
                let bytes = number.to_le_bytes();
                let length = 1 << any(seeded, 4);
                input.splice(at..(at + length).min(input.len()).max(at), bytes[..length].to_vec());
            }
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    match any(seeded, 2) {
                        0 => *byte ^= 1 << any(seeded, 8),
                        _ => *byte = u8::try_from(any(seeded, 256)).unwrap(),
                    }
                }
            }
        }
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}
