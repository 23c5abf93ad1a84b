//! What does a user write? Stateful functions: how they are invoked, what they may do, and what comes of it.

pub mod effects;
