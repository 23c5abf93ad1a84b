//! How is a node told to end? SIGTERM and SIGINT; SIGHUP is heard and ignored.

use std::rc::Rc;
use std::sync::Arc;

use async_signal::{Signal, Signals};
use smol::LocalExecutor;
use smol::stream::StreamExt;

use super::shell::Event;
use super::threads::Paths;

/// The first signal stops in order, the second ends the process at once.
pub(super) fn watch(executor: &Rc<LocalExecutor<'static>>, paths: &Paths) -> std::io::Result<()> {
    let mut signals = Signals::new([Signal::Term, Signal::Int, Signal::Hup])?;
    let inbox = Arc::clone(&paths.main);
    let watch = async move {
        let mut stopping = false;
        while let Some(signal) = signals.next().await {
            match signal {
                Ok(Signal::Hup) | Err(_) => {}
                Ok(_) if stopping => std::process::exit(1),
                Ok(_) => {
                    stopping = true;
                    log::info!("stopping");
                    inbox.push(Event::Stop);
                }
            }
        }
    };
    executor.spawn(watch).detach();
    Ok(())
}
