//! What does the client do alone? As many calls under way as the node's board allows, and nothing done with what they bring.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use fogfun::TypeName;
use fogfun::host::http::HttpClient;
use fogfun::host::inbox::Inbox;
use fogfun::host::shell::Event;
use fogfun::remote::call::{Call, CallNumber, CallOutcome, EndpointIndex};
use fogfun::worker::io::WorkerIndex;

use super::endpoint::Endpoint;
use super::{Figures, Load, Mark, document, endpoints};

/// Asks these, one after the other and again from the first.
pub fn run(endpoint: &Endpoint, load: Load, bodies: &[Bytes]) -> Figures {
    let (mut begin, mut end) = (None, None);
    ask(endpoint.port, bodies, load.calls / 4, load.calls, |client, _| {
        *(if begin.is_none() { &mut begin } else { &mut end }) = Some(Mark::now(endpoint, client));
    });
    end.unwrap().since(&begin.unwrap())
}

/// Calls whatever is behind this port: `told` hears after `warm_up` calls, and after `calls` more, with how long a reply was.
pub fn ask(port: u16, bodies: &[Bytes], warm_up: u64, calls: u64, mut told: impl FnMut(&HttpClient, usize)) {
    let endpoints = endpoints(&document(port, 1));
    let window = u64::from(endpoints[0].transport.pool_size);
    let url = endpoints[0].url.url(&TypeName::from_static("bench/count")).unwrap();
    let executor = Rc::new(smol::LocalExecutor::new());
    let inbox: Arc<Inbox<Event>> = Arc::default();
    let mut client = HttpClient::new(endpoints, &executor, Arc::clone(&inbox));
    let mut bodies = bodies.iter().cycle();
    let mut call = |number| Call {
        number: CallNumber(number),
        endpoint: EndpointIndex(0),
        url: Arc::clone(&url),
        body: bodies.next().unwrap().clone(),
    };
    let (mut made, mut ended) = (0, 0);
    let drive = async {
        let mut events = VecDeque::new();
        while ended < warm_up + calls {
            while made - ended < window && made < warm_up + calls {
                made += 1;
                client.call(WorkerIndex(0), call(made));
            }
            poll_fn(|context| if inbox.is_ready(context.waker()) { Poll::Ready(()) } else { Poll::Pending })
                .await;
            inbox.take(&mut events);
            for event in events.drain(..) {
                let Event::Called { outcome: CallOutcome::Answered { status: 200, body, .. }, .. } = event
                else {
                    panic!("{event:?}");
                };
                ended += 1;
                if ended == warm_up || ended == warm_up + calls {
                    told(&client, body.len());
                }
            }
        }
    };
    smol::block_on(executor.run(drive));
    // Let the endpoint hear that its connections are closed.
    drop((client, executor));
    std::thread::sleep(Duration::from_millis(10));
}
