//! What does an application bind, and does it fit its `module.yaml`? Functions and routers by name, checked before anything runs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::error::{LoadError, LoadErrors, Place, Report};
use super::specification::Specification;
use super::suggest;
use crate::address::TypeName;
use crate::function::{AsyncOperation, Directory, StatefulFunction};
use crate::http_config::{HTTP_TYPE, HttpConfig, HttpRole, Targets};
use crate::mqtt::config::{MetricsConfig, Role, SessionConfig};
use crate::remote::call::EndpointIndex;
use crate::remote::config::{EndpointConfig, Served};
use crate::router::Router;

/// What an application is made of in Rust; where its records come from and go to is said by its `module.yaml`.
///
/// Mistakes (a name that is none, a function bound twice) are reported by [`Application::link`], with those of the file.
#[derive(Default)]
pub struct Module {
    functions: Vec<(&'static str, FunctionProvider)>,
    namespaces: Vec<(&'static str, FunctionProvider)>,
    routers: Vec<(&'static str, RouterProvider)>,
    operations: Vec<(&'static str, Arc<dyn AsyncOperation>)>,
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

    /// Binds an operation that functions may begin:
    /// [`Context::register_operation`](crate::Context::register_operation). It runs on threads of its own.
    #[must_use]
    pub fn operation(mut self, name: &'static str, operation: impl AsyncOperation + 'static) -> Self {
        self.operations.push((name, Arc::new(operation)));
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
    /// The endpoints of remote functions, in the order of the file. An endpoint's place here is its index.
    pub endpoints: Vec<Arc<EndpointConfig>>,
    /// What is served over HTTP, in the order of the file.
    pub http: Vec<Arc<HttpConfig>>,
    /// Which broker hears what is measured.
    pub metrics: Option<Arc<MetricsConfig>>,
    /// What a person should know of the file, though it keeps nothing from starting.
    pub warnings: Vec<LoadError>,
    functions: BTreeMap<TypeName, Bound>,
    namespaces: BTreeMap<String, Bound>,
    routers: BTreeMap<TypeName, Vec<RouterProvider>>,
    egresses: BTreeMap<TypeName, usize>,
    /// The operations that functions may begin.
    pub operations: BTreeMap<TypeName, Arc<dyn AsyncOperation>>,
}

/// Who handles a function type.
enum Bound {
    Embedded(FunctionProvider),
    Remote(EndpointIndex),
}

/// Where a function type is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// In this process, by what [`Application::make_function`] makes.
    Embedded,
    /// Behind this endpoint.
    Remote(EndpointIndex),
}

impl Application {
    /// Nothing bound at all: what a data directory at rest is asked with.
    #[must_use]
    pub fn at_rest() -> Self {
        Self {
            sessions: Vec::new(),
            endpoints: Vec::new(),
            http: Vec::new(),
            metrics: None,
            warnings: Vec::new(),
            functions: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            routers: BTreeMap::new(),
            egresses: BTreeMap::new(),
            operations: BTreeMap::new(),
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
            endpoints: specification.endpoints.clone(),
            http: specification.http.clone(),
            metrics: specification.metrics.clone(),
            warnings: specification.warnings.clone(),
            functions: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            routers: BTreeMap::new(),
            egresses: BTreeMap::new(),
            operations: BTreeMap::new(),
        };
        application.bind_functions(module.functions, &mut report);
        application.bind_namespaces(module.namespaces, &mut report);
        application.bind_endpoints(&specification, &mut report);
        application.bind_routers(module.routers, &mut report);
        application.bind_operations(module.operations, &mut report);
        application.check_ingresses(&specification, &mut report);
        application.check_http(&specification, &mut report);
        application.egresses = (application.sessions.iter().enumerate())
            .filter(|(_, session)| matches!(session.role, Role::Egress(_)))
            .map(|(index, session)| (session.name.clone(), index))
            .collect();
        report.finish(application)
    }

    /// Is there a function of this type, by itself or by its namespace, here or behind an endpoint?
    #[must_use]
    pub fn binds(&self, function_type: &str) -> bool {
        TypeName::parse(function_type).is_ok_and(|name| self.bound(&name).is_some())
    }

    /// Where a function type is handled: what is bound by itself wins over its namespace. `None` if nothing binds it.
    #[must_use]
    pub fn binding(&self, function_type: &TypeName) -> Option<Binding> {
        self.bound(function_type).map(|bound| match bound {
            Bound::Embedded(_) => Binding::Embedded,
            Bound::Remote(endpoint) => Binding::Remote(*endpoint),
        })
    }

    /// A new function of this type, for the thread that asks; `None` if nothing in this process handles it.
    #[must_use]
    pub fn make_function(&self, function_type: &TypeName) -> Option<Box<dyn StatefulFunction>> {
        match self.bound(function_type)? {
            Bound::Embedded(provider) => Some(provider(function_type)),
            Bound::Remote(_) => None,
        }
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

    /// The place in [`http`](Self::http) of an egress that is fetched over HTTP; `None` if there is no such egress.
    #[must_use]
    pub fn http_egress(&self, egress: &TypeName) -> Option<usize> {
        self.http.iter().position(|config| {
            config.name == *egress && matches!(config.role, HttpRole::PlaygroundEgress { .. })
        })
    }

    /// The function types that are bound by themselves, here or behind an endpoint, in order.
    pub fn function_types(&self) -> impl Iterator<Item = &TypeName> {
        self.functions.keys()
    }

    fn bound(&self, function_type: &TypeName) -> Option<&Bound> {
        self.functions.get(function_type).or_else(|| self.namespaces.get(function_type.namespace()))
    }

    fn bind_functions(&mut self, functions: Vec<(&'static str, FunctionProvider)>, report: &mut Report) {
        for (text, provider) in functions {
            let Some(name) = bound_name("a function", text, report) else {
                continue;
            };
            if name.namespace() == RESERVED_NAMESPACE {
                reserved(text, report);
            } else if self.functions.insert(name, Bound::Embedded(provider)).is_some() {
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
            } else if self.namespaces.insert(namespace.to_owned(), Bound::Embedded(provider)).is_some() {
                let message = format!("the application binds the namespace `{namespace}` twice");
                report.add(Place::NOWHERE, message, None);
            }
        }
    }

    fn bind_operations(
        &mut self,
        operations: Vec<(&'static str, Arc<dyn AsyncOperation>)>,
        report: &mut Report,
    ) {
        for (text, operation) in operations {
            let Some(name) = bound_name("an operation", text, report) else {
                continue;
            };
            if self.operations.insert(name, operation).is_some() {
                let message = format!("the application binds the operation `{text}` twice");
                report.add(Place::NOWHERE, message, None);
            }
        }
    }

    /// Two endpoints of one function were told when the file was read.
    fn bind_endpoints(&mut self, specification: &Specification, report: &mut Report) {
        let endpoints = self.endpoints.iter().zip(&specification.endpoint_places).enumerate();
        for (index, (endpoint, places)) in endpoints {
            let bound = Bound::Remote(EndpointIndex(index));
            let (what, name, earlier) = match &endpoint.functions {
                Served::Function(name) => {
                    ("function", name.as_str(), self.functions.insert(name.clone(), bound))
                }
                Served::Namespace(name) => {
                    ("namespace", name.as_str(), self.namespaces.insert(name.clone(), bound))
                }
            };
            if let Some(Bound::Embedded(_)) = earlier {
                let message =
                    format!("the {what} `{name}` has an endpoint, and the application binds it as well");
                report.add(places.functions, message, "leave one of them out".to_owned());
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
        let comes_over_http = |config: &Arc<HttpConfig>| matches!(config.role, HttpRole::Ingress(_));
        if self.ingresses().is_empty() && !self.http.iter().any(comes_over_http) {
            let help =
                "add a document of kind `fogfun.mqtt.v1/ingress` or `fogfun.http.v1/ingress`".to_owned();
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
                self.check_target(target, *place, report);
            }
        }
    }

    fn check_http(&self, specification: &Specification, report: &mut Report) {
        for (config, places) in self.http.iter().zip(&specification.http_places) {
            for (target, place) in &places.targets {
                match target {
                    Served::Function(target) => self.check_target(target, *place, report),
                    Served::Namespace(namespace) => {
                        let is_bound = self.namespaces.contains_key(namespace)
                            || self.functions.keys().any(|name| name.namespace() == namespace);
                        if !is_bound {
                            let message = format!("nothing binds a function of the namespace `{namespace}`");
                            let names: Vec<&str> = (self.namespaces.keys().map(String::as_str))
                                .chain(self.functions.keys().map(TypeName::namespace))
                                .collect();
                            report.add(*place, message, suggest::help(namespace, names.iter().copied()));
                        }
                    }
                }
            }
            let takes_all =
                matches!(&config.role, HttpRole::Ingress(ingress) if ingress.targets == Targets::Every);
            if takes_all && self.functions.is_empty() && self.namespaces.is_empty() {
                let message = format!("records of `{}` go nowhere: nothing binds a function", config.name);
                report.add(places.port, message, None);
            }
        }
    }

    /// Is there such a function, and if it is behind an endpoint, does its name make a URL?
    fn check_target(&self, target: &TypeName, place: Place, report: &mut Report) {
        match self.binding(target) {
            None => {
                let message = format!("nothing binds the function `{target}`");
                let names: Vec<&str> = self.functions.keys().map(TypeName::as_str).collect();
                report.add(place, message, suggest::help(target.as_str(), names.iter().copied()));
            }
            Some(Binding::Remote(EndpointIndex(index))) => {
                let url = self.endpoints.get(index).and_then(|endpoint| endpoint.url.url(target));
                if url.is_none() {
                    let message = format!("the name of `{target}` makes no URL of its endpoint");
                    report.add(place, message, None);
                }
            }
            Some(Binding::Embedded) => {}
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
            .field("endpoints", &self.endpoints)
            .field("http", &self.http)
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
        // Whoever waits for a reply over HTTP is there, or nobody minds.
        *function_type == HTTP_TYPE || self.bound(function_type).is_some()
    }

    fn has_egress(&self, egress: &TypeName) -> bool {
        self.egress(egress).is_some() || self.http_egress(egress).is_some()
    }

    fn has_operation(&self, operation: &TypeName) -> bool {
        self.operations.contains_key(operation)
    }
}
