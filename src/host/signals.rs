//! How is a node told to end, or to look at its files again? SIGTERM and SIGINT; SIGHUP.
//!
//! A reload changes nothing that runs: certificate files are read again at every connection anyway; functions, passwords, sessions
//! and bounds are fixed at the start. It says whether module.yaml and the board are still what the node runs, and whether they would start.

use std::rc::Rc;
use std::sync::Arc;

use async_signal::{Signal, Signals};
use smol::LocalExecutor;
use smol::stream::StreamExt;

use super::notify::Supervisor;
use super::shell::Event;
use super::start::Reload;
use super::threads::Paths;

/// The first signal stops in order, the second ends the process at once.
pub(super) fn watch(
    executor: &Rc<LocalExecutor<'static>>,
    paths: &Paths,
    supervisor: &Supervisor,
    reload: Option<&Reload>,
) -> std::io::Result<()> {
    let mut signals = Signals::new([Signal::Term, Signal::Int, Signal::Hup])?;
    let inbox = Arc::clone(&paths.main);
    let (supervisor, reload) = (supervisor.clone(), reload.cloned());
    let watch = async move {
        let mut stopping = false;
        while let Some(signal) = signals.next().await {
            match signal {
                Err(_) => {}
                Ok(Signal::Hup) if stopping => {}
                Ok(Signal::Hup) => look_again(&supervisor, reload.clone()).await,
                Ok(_) if stopping => std::process::exit(1),
                Ok(_) => {
                    stopping = true;
                    log::info!("stopping");
                    supervisor.stopping();
                    inbox.push(Event::Stop);
                }
            }
        }
    };
    executor.spawn(watch).detach();
    Ok(())
}

async fn look_again(supervisor: &Supervisor, reload: Option<Reload>) {
    supervisor.reloading();
    // The files may lie on a card that stalls.
    let words = smol::unblock(move || reload.map(|reload| reload()).unwrap_or_default()).await;
    for line in &words {
        log::warn!("reload: {line}");
    }
    let unchanged = "files as at the start; certificates are read again at each connection";
    log::info!("reload: {}", if words.is_empty() { unchanged } else { "what runs has not changed" });
    supervisor.status(words.first().map_or("serving", String::as_str));
    supervisor.ready();
}
