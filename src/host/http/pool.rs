//! Which connections wait for the next request? Per endpoint and origin, the last used first, so that the others may grow old.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::connection::Connection;
use crate::remote::call::EndpointIndex;
use crate::remote::url::{Server, Url};

/// Where a connection leads, and with whose credentials.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Origin {
    endpoint: EndpointIndex,
    tls: bool,
    server: Server,
}

impl Origin {
    pub(super) fn new(endpoint: EndpointIndex, url: &Url) -> Self {
        Self { endpoint, tls: url.tls, server: url.server.clone() }
    }
}

/// All idle connections, and how many are not.
#[derive(Default)]
pub(super) struct Pool {
    places: RefCell<BTreeMap<Origin, Place>>,
}

/// One origin; there while anything is in it.
#[derive(Default)]
struct Place {
    under_way: usize,
    idle: Vec<(Instant, Connection)>,
}

/// The right to a connection, held during a request.
pub(super) struct Slot {
    pool: Rc<Pool>,
    origin: Origin,
    connections_max: usize,
    /// Were all slots taken?
    pub(super) is_beyond: bool,
}

impl Pool {
    /// A request begins.
    pub(super) fn enter(self: &Rc<Self>, origin: Origin, connections_max: usize) -> Slot {
        let mut places = self.places.borrow_mut();
        let place = places.entry(origin.clone()).or_default();
        place.under_way += 1;
        let is_beyond = connections_max < place.under_way;
        Slot { pool: Rc::clone(self), origin, connections_max, is_beyond }
    }

    /// Closes what was idle for too long; when does the next expire?
    pub(super) fn close_expired(&self, now: Instant) -> Option<Instant> {
        let mut places = self.places.borrow_mut();
        for place in places.values_mut() {
            place.idle.retain(|(until, connection)| now < *until && !connection.sender.is_closed());
        }
        places.retain(|_, place| !place.is_empty());
        places.values().flat_map(|place| &place.idle).map(|(until, _)| *until).min()
    }
}

impl Place {
    fn is_empty(&self) -> bool {
        self.under_way == 0 && self.idle.is_empty()
    }
}

impl Slot {
    /// An idle connection that the server has not closed, as far as we know.
    pub(super) fn reuse(&self, now: Instant) -> Option<Connection> {
        let mut places = self.pool.places.borrow_mut();
        let idle = &mut places.get_mut(&self.origin)?.idle;
        while let Some((until, connection)) = idle.pop() {
            if now < until && !connection.sender.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    /// The request is done: its connection is idle for so long at most.
    pub(super) fn keep(self, connection: Connection, time_max: Duration) {
        let mut places = self.pool.places.borrow_mut();
        if let Some(place) = places.get_mut(&self.origin)
            && place.under_way + place.idle.len() <= self.connections_max
        {
            place.idle.push((Instant::now() + time_max, connection));
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut places = self.pool.places.borrow_mut();
        if let Some(place) = places.get_mut(&self.origin) {
            place.under_way -= 1;
            if place.is_empty() {
                places.remove(&self.origin);
            }
        }
    }
}
