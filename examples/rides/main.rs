//! Ride sharing: passengers ask for rides, cells of the map know which drivers are near, drivers accept or not. How to try it is in `README.md`.
//!
//! ```text
//! app ─ ask ─→ passenger ─ request ─→ ride ─ find ─→ cell: a driver that is free near by, or none
//!                  ▲                  │ ▲ │
//!                  └──── arrived ─────┘ │ └─ offer ─→ driver ─→ app
//!                                       └── answer ────┘ ▲ ─ accept, decline, drop off ─ app
//! ```

use std::process::ExitCode;

use fogfun::module::Module;

mod cell;
mod driver;
mod passenger;
mod ride;
mod words;

use cell::Cell;
use driver::Driver;
use passenger::Passenger;
use ride::Ride;

fn main() -> ExitCode {
    fogfun::run(
        Module::new()
            .specification_embedded(include_str!("module.yaml"))
            .function("rides/passenger", Passenger::new)
            .function("rides/ride", Ride::new)
            .function("rides/cell", Cell::new)
            .function("rides/driver", Driver::new),
    )
}
