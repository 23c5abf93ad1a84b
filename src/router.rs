//! Who gets a record? A [`Router`] turns one ingress record into no, one or many messages; it keeps no state and knows no caller.
//!
//! A router that fails has forwarded nothing; its record is a dead letter of the ingress. Several routers may serve one ingress.

use smol_str::SmolStr;

use crate::address::{Address, TypeName};
use crate::function::context::{check_size, check_target};
use crate::function::{Directory, FunctionError};
use crate::message::{IngressRecord, Message};
use crate::typed_value::TypedValue;

/// Turns records of an ingress into messages: drops one by forwarding nothing, fans it out by forwarding it often.
///
/// ```
/// use fogfun::address::{Address, TypeName};
/// use fogfun::function::FunctionError;
/// use fogfun::message::IngressRecord;
/// use fogfun::router::{Downstream, Router};
///
/// const FRIDGE: TypeName = TypeName::from_static("example/fridge");
///
/// struct ByRoom;
///
/// impl Router for ByRoom {
///     fn route(&mut self, record: &IngressRecord, downstream: &mut Downstream<'_>) -> Result<(), FunctionError> {
///         let room = record.headers.text("capture.room").ok_or("no room in the topic")?;
///         downstream.forward(Address::new(FRIDGE, room)?, record.value.clone())
///     }
/// }
/// ```
pub trait Router {
    /// Forwards the record, or what it makes of it, to whom it concerns.
    ///
    /// # Errors
    /// If the record cannot be routed. Then none of it is.
    fn route(&mut self, record: &IngressRecord, downstream: &mut Downstream<'_>)
    -> Result<(), FunctionError>;
}

/// Where a router puts its messages.
pub struct Downstream<'a> {
    record: &'a IngressRecord,
    directory: &'a dyn Directory,
    messages: &'a mut Vec<Message>,
}

impl<'a> Downstream<'a> {
    /// For the runtime: lets `router` append the messages of `record` to `messages`; if it fails, it appends none.
    ///
    /// # Errors
    /// The router's.
    pub fn route<R: Router + ?Sized>(
        router: &mut R,
        record: &'a IngressRecord,
        directory: &'a dyn Directory,
        messages: &'a mut Vec<Message>,
    ) -> Result<(), FunctionError> {
        let before = messages.len();
        let mut downstream = Downstream { record, directory, messages };
        let result = router.route(record, &mut downstream);
        if result.is_err() {
            downstream.messages.truncate(before);
        }
        result
    }

    /// Sends `value` to `target`. The record's headers go along.
    ///
    /// # Errors
    /// If no function is bound to the target's type or the value is too long.
    pub fn forward(&mut self, target: Address, value: impl Into<TypedValue>) -> Result<(), FunctionError> {
        let argument = value.into();
        check_size(&argument)?;
        check_target(self.directory, &target)?;
        self.messages.push(Message {
            target,
            caller: None,
            argument,
            headers: Some(self.record.headers.clone()),
        });
        Ok(())
    }
}

/// StateFun's routing of YAML ingresses: every record goes, as it is, to the same function types, at the record's id.
#[derive(Clone, Debug)]
pub struct AutoRouter {
    targets: Vec<TypeName>,
}

impl AutoRouter {
    /// A router to these types, in this order.
    #[must_use]
    pub fn new(targets: Vec<TypeName>) -> Self {
        Self { targets }
    }
}

impl Router for AutoRouter {
    fn route(
        &mut self,
        record: &IngressRecord,
        downstream: &mut Downstream<'_>,
    ) -> Result<(), FunctionError> {
        let id = record.id.as_ref().map(SmolStr::as_str).ok_or("the record names no id")?;
        for target in &self.targets {
            downstream.forward(Address::new(target.clone(), id)?, record.value.clone())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::message::Headers;

    const FIRST: TypeName = TypeName::from_static("test/first");
    const SECOND: TypeName = TypeName::from_static("test/second");
    const NOBODY: TypeName = TypeName::from_static("test/nobody");

    struct Two;

    impl Directory for Two {
        fn binds_function(&self, function_type: &TypeName) -> bool {
            *function_type != NOBODY
        }

        fn has_operation(&self, _: &TypeName) -> bool {
            false
        }

        fn has_egress(&self, _: &TypeName) -> bool {
            false
        }
    }

    fn record(id: Option<&str>) -> IngressRecord {
        let mut headers = Headers::new();
        headers.push("topic", &b"a/b"[..]);
        IngressRecord {
            ingress: TypeName::from_static("test/in"),
            id: id.map(Into::into),
            value: 7_i64.into(),
            headers: Arc::new(headers),
        }
    }

    fn route(targets: &[TypeName], id: Option<&str>) -> (Vec<Message>, Result<(), FunctionError>) {
        let mut messages = Vec::new();
        let result =
            Downstream::route(&mut AutoRouter::new(targets.to_vec()), &record(id), &Two, &mut messages);
        (messages, result)
    }

    #[test]
    fn a_record_goes_to_every_target_at_its_id_with_its_headers() {
        let (messages, result) = route(&[FIRST, SECOND], Some("x"));
        result.unwrap();
        let targets: Vec<_> = messages.iter().map(|message| message.target.to_string()).collect();
        assert_eq!(targets, ["test/first/x", "test/second/x"]);
        for message in messages {
            assert_eq!((message.caller, message.argument), (None, 7_i64.into()));
            assert_eq!(message.headers.unwrap().text("topic"), Some("a/b"));
        }
    }

    #[test]
    fn a_router_that_fails_forwards_nothing() {
        let (messages, result) = route(&[FIRST, NOBODY], Some("x"));
        assert_eq!(result.unwrap_err().to_string(), "unknown function type `test/nobody`");
        assert!(messages.is_empty());
        assert!(route(&[FIRST], None).1.is_err());
        assert!(route(&[FIRST], Some(&"x".repeat(1000))).1.is_err());
    }
}
