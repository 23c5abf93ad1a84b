//! The stock binary: everything but embedded functions.

fn main() {}
