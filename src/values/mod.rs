//! Which values does everybody understand? The StateFun built-ins, byte for byte, and JSON and CBOR for types of one's own.
//!
//! | Rust | type name | bytes | StateFun's message |
//! |---|---|---|---|
//! | `bool` | `io.statefun.types/bool` | `08 01`; `false` is none | `BooleanWrapper`, bool |
//! | `i32` | `io.statefun.types/int` | `0d` + 4 LE; 0 is none | `IntWrapper`, sfixed32 |
//! | `i64` | `io.statefun.types/long` | `09` + 8 LE; 0 is none | `LongWrapper`, sfixed64 |
//! | `f32` | `io.statefun.types/float` | `0d` + 4 LE; +0.0 is none | `FloatWrapper`, float |
//! | `f64` | `io.statefun.types/double` | `09` + 8 LE; +0.0 is none | `DoubleWrapper`, double |
//! | `String` | `io.statefun.types/string` | `0a` + length (varint) + UTF-8; `""` is none | `StringWrapper`, string |
//! | [`Json<T>`] | the type's own | UTF-8 JSON | a custom type |
//! | [`Cbor<T>`] | the type's own | CBOR | a custom type |
//!
//! What we write is canonical proto3 — no default values, no other fields — because StateFun's Java SDK reads nothing else.
//! What we read may be any proto3 encoding of the message: unknown fields are skipped, of repeated ones the last counts.

mod builtin;
mod own;

pub use builtin::string;
pub use own::{Cbor, CborType, Json, JsonType};
