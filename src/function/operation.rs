//! How does a function do slow work? It registers an operation, goes on, and is told later what came of it.
//!
//! ```text
//! register ─ epoch committed ─→ the operation runs, on a thread of its own ─→ Success or Failure ─→ a message to the address
//!               └─ the process ends before the message is durable: at its next start it says Unknown
//! ```
//! - An operation begins after the epoch is committed that registered it, so whatever began is known to have begun.
//! - The address is told exactly once: [`OperationOutcome::Unknown`] if the process ended in between. It may have been done, or
//!   not: the function decides, for example by asking again under the same idempotency key.
//! - Meanwhile the address handles other messages. In which order operations end is not fixed.
//!
//! After StateFun's `registerAsyncOperation` and `AsyncOperationResult`, where the operation is a future that runs already.

use minicbor::{Decode, Encode};

use crate::address::TypeName;
use crate::function::FunctionError;
use crate::payload::Payload;
use crate::typed_value::{TypedValue, UnknownFields, Value, ValueError};

/// Slow work: what a [`Module`](crate::Module) binds by name. A closure is one.
pub trait AsyncOperation: Send + Sync {
    /// Does it. Runs on a thread of its own and may block; state and context are out of reach.
    ///
    /// # Errors
    /// Whatever keeps it from being done; the address is told the text.
    fn run(&self, request: &TypedValue) -> Result<TypedValue, FunctionError>;
}

impl<F> AsyncOperation for F
where
    F: Fn(&TypedValue) -> Result<TypedValue, FunctionError> + Send + Sync,
{
    fn run(&self, request: &TypedValue) -> Result<TypedValue, FunctionError> {
        self(request)
    }
}

/// What came of an operation: the message that its address gets, with the address itself as the caller.
#[derive(Clone, PartialEq, Debug)]
pub struct OperationResult {
    /// Which operation.
    pub operation: TypeName,
    /// With what it was registered: its metadata.
    pub request: TypedValue,
    /// What came of it.
    pub outcome: OperationOutcome,
}

/// How an operation ended.
#[derive(Clone, PartialEq, Debug)]
pub enum OperationOutcome {
    /// It returned this.
    Success(TypedValue),
    /// It failed or panicked; why.
    Failure(String),
    /// The process ended before it was known.
    Unknown,
}

/// ```text
/// CBOR [0 operation, 1 request, 2 status, 3 value or null, 4 text]    value: [0 type name, 1 bytes or null, 2 unknown fields]
/// ```
impl Value for OperationResult {
    const TYPENAME: &'static str = "fogfun.types/operation-result";

    fn encode(&self) -> Payload {
        let (status, value, text) = match &self.outcome {
            OperationOutcome::Success(value) => (SUCCESS, Some(value.into()), ""),
            OperationOutcome::Failure(text) => (FAILURE, None, text.as_str()),
            OperationOutcome::Unknown => (UNKNOWN, None, ""),
        };
        let encoded = Encoded {
            operation: self.operation.as_str(),
            request: (&self.request).into(),
            status,
            value,
            text,
        };
        match minicbor::to_vec(encoded) {
            Ok(bytes) => bytes.into(),
            Err(error) => unreachable!("a vector takes every byte: {error}"),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, ValueError> {
        let malformed = |what: String| ValueError::malformed(Self::TYPENAME, what);
        let encoded: Encoded<'_> = minicbor::decode(bytes).map_err(|error| malformed(error.to_string()))?;
        let operation = TypeName::parse(encoded.operation).map_err(|error| malformed(error.to_string()))?;
        let outcome = match (encoded.status, encoded.value) {
            (SUCCESS, Some(value)) => OperationOutcome::Success(value.into()),
            (FAILURE, _) => OperationOutcome::Failure(encoded.text.to_owned()),
            (UNKNOWN, _) => OperationOutcome::Unknown,
            (status, _) => return Err(malformed(format!("status {status}"))),
        };
        Ok(Self { operation, request: encoded.request.into(), outcome })
    }
}

const SUCCESS: u8 = 0;
const FAILURE: u8 = 1;
const UNKNOWN: u8 = 2;

#[derive(Encode, Decode)]
#[cbor(array)]
struct Encoded<'a> {
    #[b(0)]
    operation: &'a str,
    #[b(1)]
    request: EncodedValue<'a>,
    #[n(2)]
    status: u8,
    #[b(3)]
    value: Option<EncodedValue<'a>>,
    #[b(4)]
    text: &'a str,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct EncodedValue<'a> {
    #[b(0)]
    typename: &'a str,
    #[cbor(b(1), with = "minicbor::bytes")]
    value: Option<&'a [u8]>,
    #[cbor(b(2), with = "minicbor::bytes")]
    unknown_fields: &'a [u8],
}

impl<'a> From<&'a TypedValue> for EncodedValue<'a> {
    fn from(value: &'a TypedValue) -> Self {
        Self {
            typename: &value.typename,
            value: value.value.as_deref(),
            unknown_fields: value.unknown_fields.bytes(),
        }
    }
}

impl From<EncodedValue<'_>> for TypedValue {
    fn from(encoded: EncodedValue<'_>) -> Self {
        Self {
            typename: encoded.typename.into(),
            value: encoded.value.map(Payload::copy_from),
            unknown_fields: UnknownFields::copy_from(encoded.unknown_fields),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_comes_back() {
        for outcome in [
            OperationOutcome::Success(7_i64.into()),
            OperationOutcome::Success(TypedValue { typename: "a/b".into(), ..TypedValue::default() }),
            OperationOutcome::Failure("no".into()),
            OperationOutcome::Unknown,
        ] {
            let operation = TypeName::from_static("example/charge");
            let result = OperationResult { operation, request: "card".into(), outcome };
            assert_eq!(OperationResult::decode(&result.encode()).unwrap(), result);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_result_or_an_error(bytes: Vec<u8>) {
            let _ = OperationResult::decode(&bytes);
        }
    }
}
