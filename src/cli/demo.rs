//! `demo`, and the node that it starts.

use argh::FromArgs as _;

use super::arguments::{Demo, Run};
use super::{Exit, Failure, load};
use crate::demo::{self, DemoEnd, DemoOptions};

pub(super) fn demo(arguments: &Demo) -> Exit {
    let options = DemoOptions {
        seconds: arguments.seconds,
        fridges: arguments.fridges,
        kills: arguments.kills,
        qos: arguments.qos,
        is_plain: arguments.plain,
        is_json: arguments.json,
    };
    match demo::run(&options) {
        DemoEnd::Balanced => Exit::Done,
        DemoEnd::Unbalanced | DemoEnd::Failed => Exit::Failed,
        DemoEnd::Refused => Exit::Usage,
        DemoEnd::Interrupted => Exit::Interrupted,
    }
}

/// The demo's child: `run` with the demo's functions, as long as the demo lives.
pub(super) fn node(arguments: &[&str]) -> Result<Exit, Failure> {
    demo::end_with_parent();
    let run = Run::from_args(&[demo::NODE_COMMAND], arguments)
        .map_err(|early| Failure(Exit::Usage, early.output))?;
    load::run(demo::module(), &run)
}
