//! An application whose answers tell how often and in which order its functions were invoked; the tests kill it.
//!
//! Every message to `counting/count` carries a text, and the function answers `<count> <text>` on `out/<id>`, where the count is a
//! persisted value. `counting/relay` does the same and passes the text on to `counting/count` under another id, which mostly lives on
//! another worker, so that one record in means two out and messages between workers have to survive.

use fogfun::address::{Address, TypeName};
use fogfun::function::{Context, FunctionError, PersistedValue, StatefulFunction};
use fogfun::module::Module;
use fogfun::typed_value::TypedValue;

fn main() -> std::process::ExitCode {
    fogfun::run(
        Module::new()
            .function("counting/count", || Count::new(Then::Nothing))
            .function("counting/relay", || Count::new(Then::PassOn)),
    )
}

/// What happens behind the answer.
enum Then {
    Nothing,
    PassOn,
}

struct Count {
    count: PersistedValue<i64>,
    then: Then,
}

impl Count {
    fn new(then: Then) -> Self {
        Self { count: PersistedValue::new("count"), then }
    }
}

impl StatefulFunction for Count {
    fn invoke(&mut self, context: &mut Context<'_>, message: &TypedValue) -> Result<(), FunctionError> {
        let text: String = message.get()?;
        let count = self.count.get(context)?.unwrap_or(0) + 1;
        self.count.set(context, count)?;
        context.egress(&TypeName::parse("counting/out")?, format!("{count} {text}"))?;
        if let Then::PassOn = self.then {
            let id = format!("{}-passed-on", context.self_address().id());
            context.send(Address::new(TypeName::parse("counting/count")?, &id)?, text)?;
        }
        Ok(())
    }
}
