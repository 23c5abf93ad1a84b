//! Payments: what becomes of an order is in `order.rs`, of a card's credit in `card.rs`; `processor.rs` is the world outside, which is slow,
//! busy and loses answers. How to try it is in `README.md`.

use std::process::ExitCode;

use fogfun::module::Module;

mod card;
mod order;
mod processor;

use card::Card;
use order::Order;
use processor::Processor;

fn main() -> ExitCode {
    let processor = Processor::from_environment();
    fogfun::run(
        Module::new()
            .specification_embedded(include_str!("module.yaml"))
            .function("payment/order", Order::new)
            .function("payment/card", Card::new)
            .operation("payment/charge", move |request: &fogfun::TypedValue| processor.run(request)),
    )
}
