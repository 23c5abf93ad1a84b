//! Visitors: an application that is spoken to over HTTP alone. How to try it is in `docs/http.md`.
//!
//! `visitors/greeter` counts the visits of whoever its id names and greets him: in reply to the caller, in JSON if it was asked in
//! JSON. `visitors/board` does the same and pins the greeting to the playground's board, from where it is fetched.

use fogfun::address::TypeName;
use fogfun::function::{Context, FunctionError, PersistedValue, StatefulFunction};
use fogfun::module::Module;
use fogfun::typed_value::TypedValue;
use fogfun::values::{Json, JsonType};

fn main() -> std::process::ExitCode {
    fogfun::run(
        Module::new()
            .specification_embedded(include_str!("module.yaml"))
            .function("visitors/greeter", || Greeter::new(Then::Nothing))
            .function("visitors/board", || Greeter::new(Then::Pin)),
    )
}

/// What happens beside the reply.
enum Then {
    Nothing,
    Pin,
}

struct Greeter {
    visits: PersistedValue<i64>,
    then: Then,
}

impl Greeter {
    fn new(then: Then) -> Self {
        Self { visits: PersistedValue::new("visits"), then }
    }
}

impl StatefulFunction for Greeter {
    fn invoke(&mut self, context: &mut Context<'_>, message: &TypedValue) -> Result<(), FunctionError> {
        let visits = self.visits.get(context)?.unwrap_or(0) + 1;
        self.visits.set(context, visits)?;
        let name = context.self_address().id().to_owned();
        let greeting = format!("Hello {name}, visit {visits}!");
        if let Then::Pin = self.then {
            let record = Pinned { topic: "greetings".to_owned(), payload: greeting.clone() };
            context.egress(&BOARD, Json(record))?;
        }
        if context.caller().is_none() {
            return Ok(());
        }
        match message.typename.as_str() {
            "application/json" => context.reply(Json(Visits { name, visits })),
            _ => context.reply(greeting),
        }
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Visits {
    name: String,
    visits: i64,
}

impl JsonType for Visits {
    const TYPENAME: &'static str = "visitors/visits";
}

/// What StateFun's playground takes.
#[derive(serde::Serialize, serde::Deserialize)]
struct Pinned {
    topic: String,
    payload: String,
}

impl JsonType for Pinned {
    const TYPENAME: &'static str = "io.statefun.playground/EgressRecord";
}

const BOARD: TypeName = TypeName::from_static("io.statefun.playground/egress");
