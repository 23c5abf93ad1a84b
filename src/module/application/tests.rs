use super::*;
use crate::function::{Context, FunctionError};
use crate::message::IngressRecord;
use crate::router::Downstream;
use crate::typed_value::TypedValue;

struct Nothing;

impl StatefulFunction for Nothing {
    fn invoke(&mut self, _: &mut Context<'_>, _: &TypedValue) -> Result<(), FunctionError> {
        Ok(())
    }
}

impl Router for Nothing {
    fn route(&mut self, _: &IngressRecord, _: &mut Downstream<'_>) -> Result<(), FunctionError> {
        Ok(())
    }
}

const YAML: &str = "\
kind: fogfun.mqtt.v1/egress
spec: {id: example/out, address: mqtt://b}
---
kind: fogfun.mqtt.v1/ingress
spec:
  id: example/in
  address: mqtt://b
  topics:
    - {topic: 'fridge/{id}', format: number, targets: [example/fridge]}
    - {topic: 'oven/{id}', format: number}
";

fn specification(yaml: &str) -> Specification {
    Specification::parse("module.yaml", yaml, &|_| None).unwrap_or_else(|errors| panic!("{errors}"))
}

fn link(module: Module, yaml: &str) -> Result<Application, String> {
    Application::link(module, specification(yaml)).map_err(|errors| errors.to_string())
}

fn fitting() -> Module {
    Module::new()
        .function("example/fridge", || Nothing)
        .router("example/in", || Nothing)
        .router("example/in", || Nothing)
}

#[test]
fn what_fits_can_be_made() {
    let module = fitting().namespace("other", |name| {
        assert_eq!(name.as_str(), "other/any");
        Box::new(Nothing)
    });
    let application = link(module, YAML).unwrap();
    assert!(application.binds("example/fridge") && application.binds("other/any"));
    assert!(!application.binds("example/oven") && !application.binds("nonsense"));
    assert!(application.make_function(&TypeName::from_static("other/any")).is_some());
    assert!(application.make_function(&TypeName::from_static("example/oven")).is_none());
    assert_eq!(application.make_routers(&TypeName::from_static("example/in")).len(), 2);
    assert_eq!(application.make_routers(&TypeName::from_static("example/out")).len(), 0);
    assert_eq!(application.egress(&TypeName::from_static("example/out")), Some(0));
    assert_eq!(application.egress(&TypeName::from_static("example/in")), None);
    assert_eq!(application.function_types().count(), 1);
}

#[test]
fn an_exact_binding_wins_over_its_namespace() {
    let module = fitting().namespace("example", |name| {
        assert_eq!(name.as_str(), "example/oven", "the exact binding makes the fridge");
        Box::new(Nothing)
    });
    let application = link(module, YAML).unwrap();
    assert!(application.make_function(&TypeName::from_static("example/fridge")).is_some());
    assert!(application.make_function(&TypeName::from_static("example/oven")).is_some());
}

#[test]
fn what_does_not_fit_is_told() {
    assert_eq!(
        link(Module::new().function("example/frigde", || Nothing), YAML).unwrap_err(),
        "module.yaml:9:54: nothing binds the function `example/fridge`
  9 |     - {topic: 'fridge/{id}', format: number, targets: [example/fridge]}
    |                                                        ^^^^^^^^^^^^^^
  help: did you mean `example/frigde`?

module.yaml:10:15: records of `oven/{id}` go nowhere: it has no `targets`, and the application binds no router of `example/in`
 10 |     - {topic: 'oven/{id}', format: number}
    |               ^^^^^^^^^^^"
            .replace(":9:54:", ":9:56:")
    );
    for (module, error) in [
        (
            fitting().function("fridge", || Nothing),
            "the application binds a function `fridge` is not of the form `namespace/name`",
        ),
        (
            fitting().function("example/fridge", || Nothing),
            "the application binds the function `example/fridge` twice",
        ),
        (
            fitting().function("fogfun/x", || Nothing),
            "the application binds `fogfun/x`: the namespace `fogfun` is FogFun's own",
        ),
        (
            fitting().namespace("fogfun", |_| Box::new(Nothing)),
            "the application binds `fogfun`: the namespace `fogfun` is FogFun's own",
        ),
        (
            fitting().namespace("a/b", |_| Box::new(Nothing)),
            "the application binds the namespace `a/b`, which is none\n  help: a namespace is what stands before the slash",
        ),
        (
            fitting().namespace("a", |_| Box::new(Nothing)).namespace("a", |_| Box::new(Nothing)),
            "the application binds the namespace `a` twice",
        ),
        (
            fitting().router("example/inn", || Nothing),
            "the application binds a router of `example/inn`, which is no ingress here\n  help: did you mean `example/in`?",
        ),
        (
            fitting().router("in", || Nothing),
            "the application binds a router of `in` is not of the form `namespace/name`",
        ),
    ] {
        assert_eq!(link(module, YAML).unwrap_err(), format!("module.yaml: {error}"));
    }
    assert_eq!(
        link(Module::new(), "kind: fogfun.mqtt.v1/egress\nspec: {id: a/b, address: mqtt://b}").unwrap_err(),
        "module.yaml: nothing comes in: there is no ingress\n  help: add a document of kind `fogfun.mqtt.v1/ingress` or `fogfun.http.v1/ingress`"
    );
}

const REMOTE: &str = "\
kind: io.statefun.endpoints.v2/http
spec: {functions: example/oven, urlPathTemplate: http://a}
---
kind: io.statefun.endpoints.v2/http
spec: {functions: remote/*, urlPathTemplate: 'http://a/{function.name}'}
---
kind: fogfun.http.v1/ingress
spec: {id: example/in, port: 8090}
";

#[test]
fn functions_behind_endpoints_are_bound_like_others() {
    let module =
        Module::new().function("remote/fridge", || Nothing).namespace("example", |_| Box::new(Nothing));
    let application = link(module, REMOTE).unwrap();
    let binding = |name| application.binding(&TypeName::from_static(name));
    assert_eq!(binding("example/oven"), Some(Binding::Remote(EndpointIndex(0))));
    assert_eq!(binding("example/fridge"), Some(Binding::Embedded));
    assert_eq!(binding("remote/fridge"), Some(Binding::Embedded));
    assert_eq!(binding("remote/any"), Some(Binding::Remote(EndpointIndex(1))));
    assert_eq!(binding("other/any"), None);
    assert!(application.binds_function(&TypeName::from_static("remote/any")));
    assert!(application.make_function(&TypeName::from_static("remote/any")).is_none());
    assert!(application.make_function(&TypeName::from_static("remote/fridge")).is_some());
    assert_eq!(application.function_types().count(), 2);
    assert!(link(Module::new(), REMOTE).is_ok());
}

#[test]
fn endpoints_that_do_not_fit_are_told() {
    let targets = |targets: &str| REMOTE.replace("port: 8090", &format!("port: 8090, targets: [{targets}]"));
    for (module, yaml, error) in [
        (
            Module::new().function("example/oven", || Nothing),
            REMOTE.to_owned(),
            "module.yaml:2:19: the function `example/oven` has an endpoint, and the application binds it as well",
        ),
        (
            Module::new().namespace("remote", |_| Box::new(Nothing)),
            REMOTE.to_owned(),
            "module.yaml:5:19: the namespace `remote` has an endpoint, and the application binds it as well",
        ),
        (
            Module::new(),
            targets("example/ovne"),
            "module.yaml:8:46: nothing binds the function `example/ovne`",
        ),
        (
            Module::new(),
            targets("exampel/*"),
            "module.yaml:8:46: nothing binds a function of the namespace `exampel`",
        ),
        (
            Module::new(),
            targets("'remote/a b'"),
            "module.yaml:8:46: the name of `remote/a b` makes no URL of its endpoint",
        ),
        (
            Module::new(),
            "kind: fogfun.http.v1/ingress\nspec: {id: example/in, port: 8090}".to_owned(),
            "module.yaml:2:30: records of `example/in` go nowhere: nothing binds a function",
        ),
        (
            Module::new(),
            "kind: io.statefun.endpoints.v2/http\nspec: {functions: a/*, urlPathTemplate: http://a}"
                .to_owned(),
            "module.yaml: nothing comes in: there is no ingress",
        ),
    ] {
        let errors = link(module, &yaml).unwrap_err();
        assert_eq!(errors.lines().next(), Some(error), "{errors}");
    }
    let help = link(Module::new(), &targets("example/ovne")).unwrap_err();
    assert!(help.ends_with("help: did you mean `example/oven`?"), "{help}");
    assert!(link(Module::new(), &targets("example/*, example/oven, remote/any")).is_ok());
}

#[test]
fn a_module_shows_its_names_and_carries_its_file() {
    let module = fitting().specification_embedded(YAML);
    assert_eq!(module.embedded(), Some(YAML));
    assert_eq!(
        format!("{module:?}"),
        "Module { functions: [\"example/fridge\"], namespaces: [], routers: [\"example/in\", \"example/in\"], .. }"
    );
}
