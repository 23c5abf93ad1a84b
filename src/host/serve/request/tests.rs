use super::*;
use crate::function::{Context, FunctionError, StatefulFunction};
use crate::http_config::HttpRole;
use crate::module::{Module, Specification};

struct Nothing;

impl StatefulFunction for Nothing {
    fn invoke(&mut self, _: &mut Context<'_>, _: &TypedValue) -> Result<(), FunctionError> {
        Ok(())
    }
}

const YAML: &str = "\
kind: fogfun.http.v1/ingress
spec: {id: test/records, port: 1, path: /in, targets: [test/fridge, 'all/*'], payloadBytesMax: 10, waitMax: 20s}
---
kind: io.statefun.playground.v1/ingress
spec: {port: 2}
---
kind: fogfun.http.v1/ingress
spec: {id: test/plain, port: 3, idempotencyKeys: 0, waitMax: 0}
";

fn application() -> Application {
    let module = Module::new()
        .function("test/fridge", || Nothing)
        .function("test/oven", || Nothing)
        .namespace("all", |_| Box::new(Nothing));
    let specification = Specification::parse("module.yaml", YAML, &|_| None);
    let linked = specification.and_then(|specification| Application::link(module, specification));
    linked.unwrap_or_else(|errors| panic!("{errors}"))
}

fn head(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name = hyper::header::HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, hyper::header::HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

/// Asks the n-th port.
fn ask(port: usize, method: &str, uri: &str, lines: &[(&str, &str)]) -> Result<Asked, Refusal> {
    let application = application();
    let HttpRole::Ingress(ingress) = &application.http[port].role else { panic!("an ingress") };
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    read(ingress, &application, &method, &uri.parse().unwrap(), &head(lines))
}

fn post(uri: &str, lines: &[(&str, &str)]) -> Result<Asked, Refusal> {
    let lines = [&[("content-length", "1")], lines].concat();
    ask(0, "POST", uri, &lines)
}

fn typed(lines: &[(&str, &str)]) -> Result<BodyType, u16> {
    post("/in/test/fridge/1", lines).map(|asked| asked.body).map_err(|refusal| refusal.status.as_u16())
}

const TEXT: (&str, &str) = ("content-type", "text/plain");

#[test]
fn a_path_is_an_address() {
    for (uri, function_type, id) in [
        ("/in/test/fridge/1", "test/fridge", "1"),
        ("/in/test/fridge/", "test/fridge", ""),
        ("/in/all/x/a/b//c/", "all/x", "a/b//c/"),
        ("/in/all/x/a%2Fb%3f+%C3%A4", "all/x", "a/b?+ä"),
        ("/in/all/%78/1", "all/x", "1"),
        ("http://board:8090/in/test/fridge/1", "test/fridge", "1"),
    ] {
        let target = post(uri, &[TEXT]).unwrap().target;
        assert_eq!((target.function_type().as_str(), target.id()), (function_type, id), "{uri}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    let long = format!("/in/test/fridge/{}", "x".repeat(161));
    let cases = [
        ("POST", "/", vec![], 404, "/in/<namespace>/<name>/<id>"),
        ("POST", "/in/test/fridge", vec![], 404, "/in/<namespace>/<name>/<id>"),
        ("POST", "/inn/test/fridge/1", vec![], 404, "/in/<namespace>/<name>/<id>"),
        ("POST", "/in//fridge/1", vec![], 404, "<name>"),
        ("POST", "/in/test%2Fx/fridge/1", vec![], 404, "<name>"),
        ("POST", "/in/test/frigde/1", vec![], 404, "did you mean `test/fridge`?"),
        ("POST", "/in/test/oven/1", vec![], 404, "there is only `test/fridge`"),
        ("POST", "/in/fogfun/http/1", vec![], 404, "no function `fogfun/http`"),
        ("POST", "/in/test/fridge/%f", vec![], 400, "percent"),
        ("POST", "/in/test/fridge/%ff", vec![], 400, "UTF-8"),
        ("POST", "/in/test/fridge/1?x=y", vec![], 400, "%3F"),
        ("POST", &long, vec![], 400, "160 bytes"),
        ("GET", "/in/test/fridge/1", vec![], 405, "POST"),
        ("POST", "/in/test/fridge/1", vec![], 411, "content-length"),
        ("POST", "/in/test/fridge/1", vec![("content-length", "1")], 415, "text/plain"),
        ("POST", "/in/test/fridge/1", vec![("content-encoding", "gzip")], 415, "compressed"),
    ];
    for (method, uri, lines, status, text) in cases {
        let refusal = ask(0, method, uri, &lines).unwrap_err();
        assert_eq!(refusal.status.as_u16(), status, "{method} {uri}: {refusal:?}");
        assert!(refusal.text.contains(text), "{method} {uri}: {refusal:?}");
    }
}

#[test]
fn the_content_type_is_the_values_type() {
    let bytes = |name: &str| Ok(BodyType::Bytes(name.to_owned()));
    let json = |name: &str| Ok(BodyType::Json(name.to_owned()));
    for (content_type, body) in [
        ("text/plain", Ok(BodyType::Text)),
        ("Text/Plain; charset=\"UTF-8\"", Ok(BodyType::Text)),
        ("text/plain; format=flowed;charset=us-ascii", Ok(BodyType::Text)),
        ("text/plain; charset=latin1", Err(415)),
        ("application/json; charset=utf-8", json("application/json")),
        ("example/Order", bytes("example/Order")),
        ("io.statefun.types/long", bytes("io.statefun.types/long")),
        ("application/vnd.example/Order", bytes("example/Order")),
        ("application/vnd.order+cbor", bytes("application/vnd.order+cbor")),
        ("application/octet-stream", Err(415)),
        ("application/x-www-form-urlencoded", Err(415)),
        ("json", Err(415)),
        ("a/b/c", Err(415)),
        ("", Err(415)),
    ] {
        assert_eq!(typed(&[("content-type", content_type)]), body, "{content_type}");
    }
}

#[test]
fn a_header_names_the_type_where_the_content_type_says_something_else() {
    let named = |content_type, name| typed(&[("content-type", content_type), ("fogfun-type", name)]);
    assert_eq!(named("application/octet-stream", "a/b"), Ok(BodyType::Bytes("a/b".into())));
    assert_eq!(named("application/x-www-form-urlencoded", "a/b"), Ok(BodyType::Bytes("a/b".into())));
    assert_eq!(named("application/json", "a/b"), Ok(BodyType::Json("a/b".into())));
    assert_eq!(named("text/plain", "a/b"), Ok(BodyType::Bytes("a/b".into())));
    assert_eq!(named("text/plain", STRING), Ok(BodyType::Text));
    assert_eq!(typed(&[("fogfun-type", "a/b")]), Ok(BodyType::Bytes("a/b".into())));
    assert_eq!(named("text/plain", "ab"), Err(400));
    assert_eq!(typed(&[TEXT, TEXT]), Err(400), "twice");
    assert_eq!(typed(&[("content-type", "\u{e4}/b")]), Err(400), "no plain text");
}

#[test]
fn a_key_makes_a_request_idempotent() {
    let key = |key: &str| post("/in/test/fridge/1", &[TEXT, ("idempotency-key", key)]);
    assert_eq!(key("k 1").unwrap().idempotency, Some((b"k 1".to_vec(), 32)));
    assert!(key(&"k".repeat(MESSAGE_ID_BYTES_MAX)).is_ok());
    for wrong in ["", &"k".repeat(MESSAGE_ID_BYTES_MAX + 1)] {
        assert_eq!(key(wrong).unwrap_err().status, StatusCode::BAD_REQUEST);
    }
    let twice = [TEXT, ("idempotency-key", "a"), ("idempotency-key", "b")];
    assert_eq!(post("/in/test/fridge/1", &twice).unwrap_err().status, StatusCode::BAD_REQUEST);
    let forgetful = [("content-length", "0"), TEXT, ("idempotency-key", "a")];
    let refusal = ask(2, "POST", "/test/oven/1", &forgetful).unwrap_err();
    assert!(refusal.text.contains("`idempotencyKeys` is 0"), "{refusal:?}");
}

#[test]
fn who_prefers_to_wait_waits_as_long_as_he_may() {
    let wait = |lines: &[&str]| {
        let lines: Vec<_> = lines.iter().map(|line| ("prefer", *line)).chain([TEXT]).collect();
        post("/in/test/fridge/1", &lines).unwrap().wait.map(|wait| wait.as_secs())
    };
    assert_eq!(wait(&["wait=5"]), Some(5));
    assert_eq!(wait(&["respond-async, Wait=\"7\"; foo"]), Some(7));
    assert_eq!(wait(&["respond-async", "wait = 8"]), Some(8));
    assert_eq!(wait(&["wait=100"]), Some(20), "`waitMax`");
    for none in ["wait=0", "wait=-1", "wait=soon", "wait", "waiting=5"] {
        assert_eq!(wait(&[none]), None, "{none}");
    }
    let lines = [("content-length", "0"), TEXT, ("prefer", "wait=5")];
    assert_eq!(ask(2, "POST", "/test/oven/1", &lines).unwrap().wait, None, "`waitMax: 0`");
}

#[test]
fn few_headers_reach_the_function_and_none_that_is_secret() {
    let lines = [
        TEXT,
        ("authorization", "Bearer x"),
        ("cookie", "x"),
        ("X-Request-Id", "7"),
        ("traceparent", "00-x"),
        ("fogfun-property-Colour", "blue"),
        ("fogfun-property-Colour", "red"),
        ("fogfun-property-", "x"),
    ];
    let headers = post("/in/test/fridge/1", &lines).unwrap().headers.unwrap();
    let mut found: Vec<(&str, &[u8])> = headers.iter().collect();
    found.sort_unstable();
    let expected: [(&str, &[u8]); 4] = [
        ("header.traceparent", b"00-x"),
        ("header.x-request-id", b"7"),
        ("property.colour", b"blue"),
        ("property.colour", b"red"),
    ];
    assert_eq!(found, expected);
    assert_eq!(post("/in/test/fridge/1", &[TEXT]).unwrap().headers, None);
}

#[test]
fn a_playground_takes_any_method_and_strings() {
    for method in ["PUT", "POST", "GET"] {
        let asked = ask(1, method, "/test/oven/a", &[("prefer", "wait=5")]).unwrap();
        assert_eq!((asked.body, asked.wait), (BodyType::Text, None));
    }
    let typed = |content_type| ask(1, "PUT", "/test/oven/a", &[("content-type", content_type)]).unwrap().body;
    assert_eq!(typed("application/vnd.example/GreetRequest"), BodyType::Bytes("example/GreetRequest".into()));
    assert_eq!(typed("application/vnd.x; charset=utf-8"), BodyType::Bytes("x".into()));
    assert_eq!(typed("application/json"), BodyType::Text);
    assert_eq!(typed("application/vnd."), BodyType::Text);
    assert_eq!(ask(1, "PUT", "/test/oven", &[]).unwrap_err().status.as_u16(), 500);
    assert_eq!(ask(1, "PUT", "/test/ofen/a", &[]).unwrap_err().status.as_u16(), 404);
}

#[test]
fn bodies_are_values_of_their_type() {
    let value = |body: BodyType, bytes: &'static [u8]| {
        body.value(Bytes::from_static(bytes)).map_err(|refusal| refusal.status.as_u16())
    };
    assert_eq!(value(BodyType::Text, b"hi"), Ok("hi".into()));
    assert_eq!(value(BodyType::Text, b"\xff"), Err(400));
    let json = || BodyType::Json("a/b".into());
    assert_eq!(value(json(), b" {\"x\": 1}"), Ok(TypedValue::new("a/b", &b" {\"x\": 1}"[..])));
    for wrong in [&b""[..], b"{", b"{} x", b"\xff"] {
        assert_eq!(value(json(), wrong), Err(400), "{wrong:?}");
    }
    assert_eq!(value(BodyType::Bytes("a/b".into()), b"\xff"), Ok(TypedValue::new("a/b", &[0xff][..])));
    assert_eq!(value(BodyType::Bytes("a/b".into()), b"").unwrap().value, Some(Payload::EMPTY));
}

proptest::proptest! {
    #[test]
    fn no_head_makes_it_panic(path in "/in/[ -~]{0,30}", content_type in "[ -~]{0,30}", prefer in "[ -~]{0,30}") {
        if let Ok(uri) = path.parse::<Uri>() {
            let application = application();
            for config in &application.http {
                let HttpRole::Ingress(ingress) = &config.role else { continue };
                let headers = head(&[("content-type", &content_type), ("prefer", &prefer), ("content-length", "1")]);
                let _ = read(ingress, &application, &Method::POST, &uri, &headers);
            }
        }
    }

    #[test]
    fn any_id_can_be_written(id in "\\PC{0,40}") {
        let encoded: String = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let asked = post(&format!("/in/test/fridge/{encoded}"), &[TEXT]).unwrap();
        proptest::prop_assert_eq!(asked.target.id(), id);
    }
}
