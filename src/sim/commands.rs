//! Do random effects add up? Trees of commands, as in the smoke tests of Flink's Stateful Functions, and what they must come to.
//!
//! A message is a list of commands for its address: count, tell another address a list, tell it later, tell it later under a token
//! and cancel that, go on after an operation, publish a count. What is cancelled is due in a year, so whether it was cancelled does not hang on time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::address::{Address, TypeName};
use crate::egress::MqttRecord;
use crate::function::{Context, FunctionError, OperationResult, PersistedTable, PersistedValue};
use crate::module::{Application, Module, Specification};
use crate::typed_value::TypedValue;

/// One thing to do.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub enum Command {
    /// Count one more.
    Count,
    /// Tell another address a list.
    Send {
        /// Whom.
        id: u8,
        /// What.
        then: Vec<Command>,
    },
    /// Tell it after a while.
    Later {
        /// After how long.
        milliseconds: u64,
        /// Whom.
        id: u8,
        /// What.
        then: Vec<Command>,
    },
    /// To be cancelled by the other type of the same id, told at once to do so.
    InVain {
        /// Names what is to be cancelled.
        token: u64,
        /// What is never to be done.
        then: Vec<Command>,
    },
    /// Cancel what was sent under a token.
    Cancel {
        /// That one.
        token: u64,
    },
    /// Begins an operation, and goes on when told what came of it: whatever that is, once.
    Operate {
        /// What is done afterwards.
        then: Vec<Command>,
    },
    /// Fills and clears a table, which then holds the count alone.
    Table,
    /// Publish how often one has done so.
    Emit,
}

/// What each id counts and publishes in the end.
#[derive(Default, Debug, Clone, PartialEq)]
pub struct Expected {
    /// Counts by id.
    pub counts: BTreeMap<u8, i64>,
    /// The last number published, by topic.
    pub emitted: BTreeMap<String, i64>,
}

impl Expected {
    /// Adds what one list comes to.
    pub fn add(&mut self, id: u8, commands: &[Command]) {
        for command in commands {
            match command {
                Command::Count => *self.counts.entry(id).or_default() += 1,
                Command::Emit => *self.emitted.entry(format!("tree/{id}")).or_default() += 1,
                Command::Send { id, then } | Command::Later { id, then, .. } => self.add(*id, then),
                Command::Operate { then } => self.add(id, then),
                Command::InVain { .. } | Command::Cancel { .. } | Command::Table => {}
            }
        }
    }
}

/// A tree of a few dozen commands at most. `tokens` numbers tokens, for one in use would be an error.
#[must_use]
pub fn draw(random: &mut fastrand::Rng, depth: u32, tokens: &mut u64) -> Vec<Command> {
    let mut commands = Vec::new();
    for _ in 0..random.u8(1..4) {
        let is_leaf = depth == 0;
        let command = match random.u8(0..11) {
            0..3 => Command::Count,
            3 => Command::Emit,
            4 => Command::Table,
            _ if is_leaf => Command::Count,
            5..8 => Command::Send { id: random.u8(0..IDS), then: draw(random, depth - 1, tokens) },
            8 => Command::Later {
                milliseconds: random.u64(0..300),
                id: random.u8(0..IDS),
                then: draw(random, depth - 1, tokens),
            },
            9 => Command::Operate { then: draw(random, depth - 1, tokens) },
            _ => {
                *tokens += 1;
                Command::InVain { token: *tokens, then: vec![Command::Count, Command::Emit] }
            }
        };
        commands.push(command);
    }
    commands
}

/// A list of commands as the text of a message.
#[must_use]
pub fn text(commands: &[Command]) -> String {
    serde_json::to_string(commands).unwrap_or_default()
}

/// The application that obeys them.
///
/// # Panics
/// Never: its `module.yaml` is fixed.
#[must_use]
pub fn application() -> Arc<Application> {
    let echo = |request: &TypedValue| match request.bytes().len() % 3 {
        0 => Err(FunctionError::new("as asked")),
        _ => Ok(request.clone()),
    };
    let module = Module::new()
        .function("tree/node", || invoke)
        .function("tree/other", || invoke)
        .operation("tree/echo", echo);
    let specification = Specification::parse("module.yaml", MODULE, &|_| None);
    match specification.and_then(|specification| Application::link(module, specification)) {
        Ok(application) => Arc::new(application),
        Err(errors) => unreachable!("{errors}"),
    }
}

fn invoke(context: &mut Context<'_>, message: &TypedValue) -> Result<(), FunctionError> {
    let text_of_commands = match message.get::<OperationResult>() {
        Ok(result) => result.request.get::<String>()?,
        Err(_) => message.get::<String>()?,
    };
    let commands: Vec<Command> =
        serde_json::from_str(&text_of_commands).map_err(|error| FunctionError::new(error.to_string()))?;
    let own_id = context.self_address().id().to_owned();
    for command in commands {
        match command {
            Command::Count => {
                COUNT.update(context, |count| count.unwrap_or(0) + 1)?;
            }
            Command::Send { id, then } => context.send(node(id)?, text(&then))?,
            Command::Later { milliseconds, id, then } => {
                context.send_after(Duration::from_millis(milliseconds), node(id)?, text(&then))?;
            }
            Command::InVain { token, then } => {
                let target = Address::new(NODE, &own_id)?;
                context.send_after_with_token(YEAR, target, text(&then), &format!("t{token}"))?;
                let cancel = text(&[Command::Cancel { token }]);
                context.send(Address::new(OTHER, &own_id)?, cancel)?;
            }
            Command::Operate { then } => context.register_operation(&ECHO, text(&then))?,
            Command::Cancel { token } => context.cancel(&format!("t{token}"))?,
            Command::Table => {
                for key in TABLE.keys(context)? {
                    TABLE.remove(context, &key)?;
                }
                for key in 0..3 {
                    TABLE.set(context, &key, i64::from(key))?;
                }
                TABLE.clear(context)?;
                let count = COUNT.get(context)?.unwrap_or(0);
                TABLE.set(context, &7, count)?;
            }
            Command::Emit => {
                let emitted = EMITTED.update(context, |count| count.unwrap_or(0) + 1)?;
                context.egress(&OUT, MqttRecord::new(format!("tree/{own_id}"), emitted.to_string()))?;
            }
        }
    }
    Ok(())
}

fn node(id: u8) -> Result<Address, FunctionError> {
    Ok(Address::new(NODE, &id.to_string())?)
}

/// Ids of the trees' addresses.
pub const IDS: u8 = 9;

const COUNT: PersistedValue<i64> = PersistedValue::new("count");
const EMITTED: PersistedValue<i64> = PersistedValue::new("emitted");
const TABLE: PersistedTable<u32, i64> = PersistedTable::new("table");
const NODE: TypeName = TypeName::from_static("tree/node");
const OTHER: TypeName = TypeName::from_static("tree/other");
const ECHO: TypeName = TypeName::from_static("tree/echo");
const OUT: TypeName = TypeName::from_static("tree/out");
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

const MODULE: &str = r"
kind: fogfun.mqtt.v1/ingress
spec:
  id: tree/in
  address: mqtt://broker
  topics:
    - topic: tree-in/{id}
      qos: 2
      format: text
      id: {capture: id}
      targets: [tree/node]
---
kind: fogfun.mqtt.v1/egress
spec:
  id: tree/out
  address: mqtt://broker
  qos: 2
";
