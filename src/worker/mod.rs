//! One thread's share of the work: its key groups, their functions, and its part of every epoch.

pub mod io;
