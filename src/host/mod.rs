//! What does the operating system do for us? The only code that calls it.

pub mod base;
pub mod files;

#[cfg(test)]
mod tests;
