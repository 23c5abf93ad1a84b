//! Who is served at a time? Everybody who connects, each in a task of its own, up to a bound; a further one is closed at once.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use smol::LocalExecutor;

/// Before the next try, when the operating system has no socket to give.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Serves `clients_max` at a time of those who come in by `accept`, until the executor is dropped; of each further one `on_full` hears.
/// A client that went away is nobody's concern: what `serve` returns is not looked at.
pub(super) fn serve_clients<S: 'static, F: Future<Output = io::Result<()>> + 'static>(
    name: &'static str,
    clients_max: usize,
    executor: &Rc<LocalExecutor<'static>>,
    accept: impl AsyncFn() -> io::Result<S> + 'static,
    serve: impl Fn(S) -> F + 'static,
    on_full: impl Fn() + 'static,
) {
    // Weak: a task that owned its executor would never be dropped, nor would the sockets.
    let spawner = Rc::downgrade(executor);
    let accept_all = async move {
        let clients = Rc::new(());
        loop {
            match accept().await {
                Ok(stream) if Rc::strong_count(&clients) <= clients_max => {
                    let (served, place) = (serve(stream), Rc::clone(&clients));
                    if let Some(spawner) = spawner.upgrade() {
                        let task = async move {
                            let _gone = served.await;
                            drop(place);
                        };
                        spawner.spawn(task).detach();
                    }
                }
                Ok(_) => on_full(),
                Err(error) => {
                    log::warn!("{name}: {error}");
                    smol::Timer::after(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    executor.spawn(accept_all).detach();
}
