//! What do the functions say to each other, the apps to them, and they to the world?

use fogfun::address::{Address, NameError, TypeName};
use fogfun::function::{Context, FunctionError};
use fogfun::values::{Json, JsonType};
use serde::{Deserialize, Serialize};

pub(crate) const PASSENGER: TypeName = TypeName::from_static("rides/passenger");
pub(crate) const RIDE: TypeName = TypeName::from_static("rides/ride");
pub(crate) const CELL: TypeName = TypeName::from_static("rides/cell");
pub(crate) const DRIVER: TypeName = TypeName::from_static("rides/driver");
const NEWS: TypeName = TypeName::from_static("rides/news");

/// The map is a square of so many cells a side.
pub(crate) const MAP_CELLS: u8 = 4;

/// A cell of the map. Its function's id is `column-row`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) column: u8,
    pub(crate) row: u8,
}

/// From a passenger's app: `{"passenger":"ann","from":{"column":0,"row":1},"to":{"column":3,"row":2}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ask {
    pub(crate) from: Place,
    pub(crate) to: Place,
}

/// From a driver's app: `{"driver":"bob","says":"accept","ride":"ann-1"}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "says", rename_all = "kebab-case")]
pub(crate) enum DriverSays {
    /// I am here; the first time: and free.
    At { place: Place },
    /// I take the ride that was offered.
    Accept { ride: String },
    /// I do not.
    Decline { ride: String },
    /// The passenger is where they wanted to be, and so am I.
    DropOff { ride: String, place: Place },
}

/// From a passenger to its new ride.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) from: Place,
    pub(crate) to: Place,
}

/// From a driver to a cell: I am here and free, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Presence {
    Enter,
    Leave,
}

/// From a ride to a cell: who is free?
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Find;

/// From a cell to a ride: this one, who is no longer in my list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) driver: Option<String>,
}

/// From a ride to a driver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Offer {
    pub(crate) from: Place,
    pub(crate) to: Place,
}

/// From a driver to the ride that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Accepted,
    Declined,
    /// It was accepted, and is over.
    DroppedOff,
}

/// From a ride to its passenger.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Arrived;

/// To oneself, later: nobody was free; look again.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SearchAgain;

/// To oneself, later: the driver has not answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct OfferOver {
    pub(crate) ride: String,
}

/// To the world, under the topic of whom it is about: `news/driver/bob {"took":"ann-1"}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum News {
    /// A ride was asked for.
    Requested,
    /// A ride has this driver.
    Driver(String),
    /// A ride is over.
    Ended,
    /// A driver is asked to take a ride.
    Offered { ride: String, from: Place, to: Place },
    /// A driver has this ride.
    Took(String),
    /// A driver is free again.
    Finished(String),
    /// A passenger's n-th ride is over.
    Arrived(i64),
}

macro_rules! json {
    ($($type:ty = $name:literal),+ $(,)?) => {
        $(impl JsonType for $type {
            const TYPENAME: &'static str = $name;
        })+
    };
}

json! {
    Ask = "rides/ask",
    DriverSays = "rides/driver-says",
    Request = "rides/request",
    Presence = "rides/presence",
    Find = "rides/find",
    Found = "rides/found",
    Offer = "rides/offer",
    Answer = "rides/answer",
    Arrived = "rides/arrived",
    SearchAgain = "rides/search-again",
    OfferOver = "rides/offer-over",
    News = "rides/news",
}

impl Place {
    /// The function that knows who is there.
    pub(crate) fn cell(self) -> Result<Address, NameError> {
        Address::new(CELL, &format!("{}-{}", self.column, self.row))
    }

    /// All cells, the nearest first; itself is the first of all.
    pub(crate) fn nearest_first(self) -> Vec<Self> {
        let rows = |column| (0..MAP_CELLS).map(move |row| Self { column, row });
        let mut cells: Vec<Self> = (0..MAP_CELLS).flat_map(rows).collect();
        cells.sort_by_key(|cell| cell.column.abs_diff(self.column) + cell.row.abs_diff(self.row));
        cells
    }
}

/// Publishes what happened to whom is invoked.
pub(crate) fn publish(context: &mut Context<'_>, news: News) -> Result<(), FunctionError> {
    context.egress(&NEWS, Json(news))
}

/// Who sent the message.
pub(crate) fn sender(context: &Context<'_>) -> Result<Address, FunctionError> {
    context.caller().cloned().ok_or_else(|| FunctionError::new("the message has no sender"))
}
