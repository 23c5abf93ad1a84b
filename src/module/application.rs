//! What does an application bind, and does it fit its `module.yaml`? Functions and routers by name, checked before anything runs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::error::{LoadErrors, Place, Report};
use super::specification::Specification;
use super::suggest;
use crate::address::TypeName;
use crate::function::{Directory, StatefulFunction};
use crate::mqtt::config::{Role, SessionConfig};
use crate::remote::config::EndpointConfig;
use crate::router::Router;

/// What an application is made of in Rust; where its records come from and go to is said by its `module.yaml`.
///
/// Mistakes (a name that is none, a function bound twice) are reported by [`Application::link`], with those of the file.
#[derive(Default)]
pub struct Module {
    functions: Vec<(&'static str, FunctionProvider)>,
    namespaces: Vec<(&'static str, FunctionProvider)>,
    routers: Vec<(&'static str, RouterProvider)>,
    specification: Option<&'static str>,
}

type FunctionProvider = Box<dyn Fn(&TypeName) -> Box<dyn StatefulFunction> + Send + Sync>;
type RouterProvider = Box<dyn Fn() -> Box<dyn Router> + Send + Sync>;

impl Module {
    /// A module that binds nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Binds one function type. The provider is called once per worker, on the worker's thread, where the function stays.
    #[must_use]
    pub fn function<F>(
        mut self,
        function_type: &'static str,
        provider: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: StatefulFunction + 'static,
    {
        self.functions.push((function_type, Box::new(move |_| Box::new(provider()))));
        self
    }

    /// Binds every function type of a namespace that is not bound by itself. The provider is told which one is wanted.
    #[must_use]
    pub fn namespace(
        mut self,
        namespace: &'static str,
        provider: impl Fn(&TypeName) -> Box<dyn StatefulFunction> + Send + Sync + 'static,
    ) -> Self {
        self.namespaces.push((namespace, Box::new(provider)));
        self
    }

    /// Binds a router to an ingress; of several each sees every record, in the order in which they were bound.
    #[must_use]
    pub fn router<R>(
        mut self,
        ingress: &'static str,
        provider: impl Fn() -> R + Send + Sync + 'static,
    ) -> Self
    where
        R: Router + 'static,
    {
        self.routers.push((ingress, Box::new(move || Box::new(provider()))));
        self
    }

    /// Carries a `module.yaml` in the program; it counts where no file is named.
    #[must_use]
    pub fn specification_embedded(mut self, yaml: &'static str) -> Self {
        self.specification = Some(yaml);
        self
    }

    /// The `module.yaml` that the program carries.
    #[must_use]
    pub fn embedded(&self) -> Option<&'static str> {
        self.specification
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |bound: &[(&'static str, FunctionProvider)]| -> Vec<&str> {
            bound.iter().map(|(name, _)| *name).collect()
        };
        f.debug_struct("Module")
            .field("functions", &names(&self.functions))
            .field("namespaces", &names(&self.namespaces))
            .field("routers", &self.routers.iter().map(|(ingress, _)| *ingress).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// A [`Module`] and a [`Specification`] that fit each other.
pub struct Application {
    /// The sessions, ingresses and egresses, in the order of the file. A session's place here is its index.
    pub sessions: Vec<Arc<SessionConfig>>,
    /// The endpoints of remote functions. An endpoint's place here is its index.
    pub endpoints: Vec<Arc<EndpointConfig>>,
    functions: BTreeMap<TypeName, FunctionProvider>,
    namespaces: BTreeMap<&'static str, FunctionProvider>,
    routers: BTreeMap<TypeName, Vec<RouterProvider>>,
    egresses: BTreeMap<TypeName, usize>,
}

impl Application {
    /// Nothing bound at all: what a data directory at rest is asked with.
    #[must_use]
    pub fn at_rest() -> Self {
        Self {
            sessions: Vec::new(),
            endpoints: Vec::new(),
            functions: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            routers: BTreeMap::new(),
            egresses: BTreeMap::new(),
        }
    }

    /// Checks the two against each other.
    ///
    /// # Errors
    /// Targets that nothing binds, topics whose records would go nowhere, routers of ingresses that are not there, names that are
    /// none or bound twice; no ingress at all.
    pub fn link(module: Module, specification: Specification) -> Result<Self, LoadErrors> {
        let mut report = Report::new(Arc::clone(&specification.source));
        let mut application = Self {
            sessions: specification.sessions.clone(),
            endpoints: Vec::new(),
            functions: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            routers: BTreeMap::new(),
            egresses: BTreeMap::new(),
        };
        application.bind_functions(module.functions, &mut report);
        application.bind_namespaces(module.namespaces, &mut report);
        application.bind_routers(module.routers, &mut report);
        application.check_ingresses(&specification, &mut report);
        application.egresses = (application.sessions.iter().enumerate())
            .filter(|(_, session)| matches!(session.role, Role::Egress(_)))
            .map(|(index, session)| (session.name.clone(), index))
            .collect();
        report.finish(application)
    }

    /// Is there a function of this type, by itself or by its namespace?
    #[must_use]
    pub fn binds(&self, function_type: &str) -> bool {
        TypeName::parse(function_type).is_ok_and(|name| self.provider(&name).is_some())
    }

    /// A new function of this type, for the thread that asks; `None` if nothing binds it.
    #[must_use]
    pub fn make_function(&self, function_type: &TypeName) -> Option<Box<dyn StatefulFunction>> {
        self.provider(function_type).map(|provider| provider(function_type))
    }

    /// New routers of an ingress in the order in which they were bound, for the thread that asks.
    #[must_use]
    pub fn make_routers(&self, ingress: &TypeName) -> Vec<Box<dyn Router>> {
        let providers = self.routers.get(ingress).map(Vec::as_slice).unwrap_or_default();
        providers.iter().map(|provider| provider()).collect()
    }

    /// The index of an egress's session; `None` if there is no such egress.
    #[must_use]
    pub fn egress(&self, egress: &TypeName) -> Option<usize> {
        self.egresses.get(egress).copied()
    }

    /// The function types that are bound by themselves, in order.
    pub fn function_types(&self) -> impl Iterator<Item = &TypeName> {
        self.functions.keys()
    }

    fn provider(&self, function_type: &TypeName) -> Option<&FunctionProvider> {
        self.functions.get(function_type).or_else(|| self.namespaces.get(function_type.namespace()))
    }

    fn bind_functions(&mut self, functions: Vec<(&'static str, FunctionProvider)>, report: &mut Report) {
        for (text, provider) in functions {
            let Some(name) = bound_name("a function", text, report) else {
                continue;
            };
            if name.namespace() == RESERVED_NAMESPACE {
                reserved(text, report);
            } else if self.functions.insert(name, provider).is_some() {
                report.add(
                    Place::NOWHERE,
                    format!("the application binds the function `{text}` twice"),
                    None,
                );
            }
        }
    }

    fn bind_namespaces(&mut self, namespaces: Vec<(&'static str, FunctionProvider)>, report: &mut Report) {
        for (namespace, provider) in namespaces {
            if namespace == RESERVED_NAMESPACE {
                reserved(namespace, report);
            } else if namespace.is_empty() || namespace.contains('/') {
                let message = format!("the application binds the namespace `{namespace}`, which is none");
                report.add(Place::NOWHERE, message, "a namespace is what stands before the slash".to_owned());
            } else if self.namespaces.insert(namespace, provider).is_some() {
                let message = format!("the application binds the namespace `{namespace}` twice");
                report.add(Place::NOWHERE, message, None);
            }
        }
    }

    fn bind_routers(&mut self, routers: Vec<(&'static str, RouterProvider)>, report: &mut Report) {
        for (text, provider) in routers {
            let Some(name) = bound_name("a router of", text, report) else {
                continue;
            };
            let ingresses = self.ingresses();
            if !ingresses.contains(&text) {
                let message = format!("the application binds a router of `{text}`, which is no ingress here");
                report.add(Place::NOWHERE, message, suggest::help(text, ingresses.iter().copied()));
                continue;
            }
            self.routers.entry(name).or_default().push(provider);
        }
    }

    fn check_ingresses(&self, specification: &Specification, report: &mut Report) {
        if self.ingresses().is_empty() {
            let help = "add a document of kind `fogfun.mqtt.v1/ingress`".to_owned();
            report.add(Place::NOWHERE, "nothing comes in: there is no ingress", help);
        }
        for (session, places) in self.sessions.iter().zip(&specification.places) {
            let Role::Ingress { subscriptions } = &session.role else {
                continue;
            };
            let routed = self.routers.contains_key(&session.name);
            for (subscription, place) in subscriptions.iter().zip(&places.subscriptions) {
                if subscription.targets.is_empty() && !routed {
                    let message = format!(
                        "records of `{}` go nowhere: it has no `targets`, and the application binds no router of `{}`",
                        subscription.pattern.text, session.name
                    );
                    report.add(*place, message, None);
                }
            }
            for (target, place) in &places.targets {
                if self.provider(target).is_none() {
                    let message = format!("nothing binds the function `{target}`");
                    let names: Vec<&str> = self.functions.keys().map(TypeName::as_str).collect();
                    report.add(*place, message, suggest::help(target.as_str(), names.iter().copied()));
                }
            }
        }
    }

    fn ingresses(&self) -> Vec<&str> {
        self.sessions
            .iter()
            .filter(|session| matches!(session.role, Role::Ingress { .. }))
            .map(|session| session.name.as_str())
            .collect()
    }
}

impl fmt::Debug for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Application")
            .field("sessions", &self.sessions)
            .field("functions", &self.functions.keys().collect::<Vec<_>>())
            .field("namespaces", &self.namespaces.keys().collect::<Vec<_>>())
            .field("routers", &self.routers.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

fn bound_name(what: &str, text: &str, report: &mut Report) -> Option<TypeName> {
    TypeName::parse(text)
        .map_err(|error| report.add(Place::NOWHERE, format!("the application binds {what} {error}"), None))
        .ok()
}

fn reserved(text: &str, report: &mut Report) {
    let message =
        format!("the application binds `{text}`: the namespace `{RESERVED_NAMESPACE}` is FogFun's own");
    report.add(Place::NOWHERE, message, None);
}

/// Sessions are addresses of `fogfun/session`.
const RESERVED_NAMESPACE: &str = "fogfun";

#[cfg(test)]
mod tests;

impl Directory for Application {
    fn binds_function(&self, function_type: &TypeName) -> bool {
        self.provider(function_type).is_some()
    }

    fn has_egress(&self, egress: &TypeName) -> bool {
        self.egress(egress).is_some()
    }
}
