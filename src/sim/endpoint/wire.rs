//! The messages of `io.statefun.sdk.reqreply` as an SDK sees them; names and numbers are StateFun's.
#![expect(missing_docs, reason = "StateFun's `request-reply.proto` says what each field is")]

use bytes::Bytes;

#[derive(Clone, PartialEq, prost::Message)]
pub struct Address {
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// `type` in StateFun.
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct TypedValue {
    #[prost(string, tag = "1")]
    pub typename: String,
    #[prost(bool, tag = "2")]
    pub has_value: bool,
    #[prost(bytes = "bytes", tag = "3")]
    pub value: Bytes,
}

/// Its `oneof request` has one arm.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ToFunction {
    #[prost(message, optional, tag = "100")]
    pub invocation: Option<InvocationBatchRequest>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct InvocationBatchRequest {
    #[prost(message, optional, tag = "1")]
    pub target: Option<Address>,
    #[prost(message, repeated, tag = "2")]
    pub state: Vec<PersistedValue>,
    #[prost(message, repeated, tag = "3")]
    pub invocations: Vec<Invocation>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct PersistedValue {
    #[prost(string, tag = "1")]
    pub state_name: String,
    #[prost(message, optional, tag = "2")]
    pub state_value: Option<TypedValue>,
}

/// `ToFunction.Invocation`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Invocation {
    #[prost(message, optional, tag = "1")]
    pub caller: Option<Address>,
    #[prost(message, optional, tag = "2")]
    pub argument: Option<TypedValue>,
}

/// Its `oneof response` is one of the two.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FromFunction {
    #[prost(message, optional, tag = "100")]
    pub invocation_result: Option<InvocationResponse>,
    #[prost(message, optional, tag = "101")]
    pub incomplete_invocation_context: Option<IncompleteInvocationContext>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct InvocationResponse {
    #[prost(message, repeated, tag = "1")]
    pub state_mutations: Vec<PersistedValueMutation>,
    #[prost(message, repeated, tag = "2")]
    pub outgoing_messages: Vec<Sent>,
    #[prost(message, repeated, tag = "3")]
    pub delayed_invocations: Vec<DelayedInvocation>,
    #[prost(message, repeated, tag = "4")]
    pub outgoing_egresses: Vec<EgressMessage>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct PersistedValueMutation {
    /// 0 deletes, 1 modifies.
    #[prost(int32, tag = "1")]
    pub mutation_type: i32,
    #[prost(string, tag = "2")]
    pub state_name: String,
    #[prost(message, optional, tag = "3")]
    pub state_value: Option<TypedValue>,
}

/// `FromFunction.Invocation`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sent {
    #[prost(message, optional, tag = "1")]
    pub target: Option<Address>,
    #[prost(message, optional, tag = "2")]
    pub argument: Option<TypedValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct DelayedInvocation {
    #[prost(int64, tag = "1")]
    pub delay_in_ms: i64,
    #[prost(message, optional, tag = "2")]
    pub target: Option<Address>,
    #[prost(message, optional, tag = "3")]
    pub argument: Option<TypedValue>,
    #[prost(bool, tag = "10")]
    pub is_cancellation_request: bool,
    #[prost(string, tag = "11")]
    pub cancellation_token: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct EgressMessage {
    #[prost(string, tag = "1")]
    pub egress_namespace: String,
    #[prost(string, tag = "2")]
    pub egress_type: String,
    #[prost(message, optional, tag = "3")]
    pub argument: Option<TypedValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct PersistedValueSpec {
    #[prost(string, tag = "1")]
    pub state_name: String,
    #[prost(message, optional, tag = "2")]
    pub expiration_spec: Option<ExpirationSpec>,
    #[prost(string, tag = "3")]
    pub type_typename: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ExpirationSpec {
    /// 0 never, 1 after write, 2 after invoke.
    #[prost(int32, tag = "1")]
    pub mode: i32,
    #[prost(int64, tag = "2")]
    pub expire_after_millis: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct IncompleteInvocationContext {
    #[prost(message, repeated, tag = "1")]
    pub missing_values: Vec<PersistedValueSpec>,
}
