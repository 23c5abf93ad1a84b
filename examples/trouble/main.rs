//! An application that misbehaves on request; the tests look at how a node copes.
//!
//! `trouble/count` counts and answers as `counting/count` does, but for texts that are the name of a trouble: `fail`, `panic`, `abort`,
//! `loop`, `fail-then-abort`. Started with `TROUBLE_CURED=1` it takes those for texts like others. `later` is passed on to
//! `trouble/later` after a while; only a node started with `TROUBLE_LATER=1` has it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fogfun::address::{Address, TypeName};
use fogfun::function::{Context, FunctionError, PersistedValue, StatefulFunction};
use fogfun::module::Module;
use fogfun::typed_value::TypedValue;

fn main() -> std::process::ExitCode {
    let count = || Count { count: PersistedValue::new("count") };
    let mut module = Module::new().function("trouble/count", count);
    if is_set("TROUBLE_LATER") {
        module = module.function("trouble/later", count);
    }
    fogfun::run(module)
}

/// Long enough for a test to start the node without the function.
const LATER: Duration = Duration::from_secs(3);

fn is_set(name: &str) -> bool {
    std::env::var(name).is_ok_and(|value| value == "1")
}

struct Count {
    count: PersistedValue<i64>,
}

impl StatefulFunction for Count {
    fn invoke(&mut self, context: &mut Context<'_>, message: &TypedValue) -> Result<(), FunctionError> {
        let text: String = message.get()?;
        if !is_set("TROUBLE_CURED") {
            misbehave(&text)?;
        }
        let later = TypeName::parse("trouble/later")?;
        if text == "later" && *context.self_address().function_type() != later {
            let id = context.self_address().id().to_owned();
            context.send_after(LATER, Address::new(later, &id)?, text)?;
            return Ok(());
        }
        let count = self.count.get(context)?.unwrap_or(0) + 1;
        self.count.set(context, count)?;
        context.egress(&TypeName::parse("counting/out")?, format!("{count} {text}"))?;
        Ok(())
    }
}

fn misbehave(text: &str) -> Result<(), FunctionError> {
    static HAS_FAILED: AtomicBool = AtomicBool::new(false);
    match text {
        "fail" => return Err(FunctionError::new("the fridge is open")),
        "panic" => {
            #[expect(clippy::panic, reason = "that is what was asked for")]
            {
                panic!("the fridge is on fire")
            }
        }
        "abort" => std::process::abort(),
        "loop" => loop {
            std::hint::spin_loop();
        },
        "fail-then-abort" if HAS_FAILED.swap(true, Ordering::Relaxed) => std::process::abort(),
        "fail-then-abort" => return Err(FunctionError::new("a first try")),
        _ => {}
    }
    Ok(())
}
