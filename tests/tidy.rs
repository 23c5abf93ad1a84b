//! Is the code what docs/ARCHITECTURE.md says it is? What neither the compiler nor clippy checks is read from the sources here.
//!
//! Tests (from a `#[cfg(test)]` on, and files under `tests`) and comments are not part of the architecture.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say failure by a panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Lines of a source file at most; aim under half of it.
const FILE_LINES_MAX: usize = 600;

/// Where the operating system may be named: the shell, the command line, and what starts them.
const SHELL: [&str; 5] = ["host", "cli", "demo", "main", "run"];

/// What only the shell may name, and what a machine has instead.
const OF_THE_SHELL: [(&str, &str); 17] = [
    ("smol::", "an input or an output"),
    ("TcpStream", "bytes in an input, `Transmit` out"),
    ("TcpListener", "bytes in an input, `Transmit` out"),
    ("ToSocketAddrs", "a host name in an output"),
    ("std::fs", "the store's `Disk`, or text handed in"),
    ("std::thread", "one machine per thread, made by the shell"),
    ("std::env", "a function handed in"),
    ("rustix::", "an input or an output"),
    ("libc::", "an input or an output"),
    ("heed::", "the store's `Base`"),
    ("futures_rustls", "bytes in an input, `Transmit` out"),
    ("SystemTime", "the runtime time handed in"),
    ("std::time::Instant", "`embassy_time::Instant` handed in as `now`"),
    ("Instant::now", "`now`, handed in"),
    ("async fn", "`handle_input`, `poll_output`, `poll_timeout`"),
    ("async {", "`handle_input`, `poll_output`, `poll_timeout`"),
    ("async move", "`handle_input`, `poll_output`, `poll_timeout`"),
];

/// What no source may say, and what to do instead.
const BANNED: [(&str, &str); 6] = [
    ("FIXME", "fix it, or `TODO(#n)`"),
    ("XXX", "say it in a sentence"),
    ("static mut", "a field"),
    ("thread_local!", "a field"),
    ("\t", "four blanks"),
    (" \n", "no blanks at a line's end"),
];

#[test]
fn modules_name_only_lower_layers() {
    let architecture = read(&root().join("docs/ARCHITECTURE.md"));
    let layers = layers_in(&architecture);
    let exceptions = exceptions_in(&architecture);
    assert!(10 < layers.len(), "the layer table was not found");
    let mut wrong = Vec::new();
    for (path, code) in sources() {
        let module = module_of(&path);
        if module == "lib" {
            continue;
        }
        for named in named_modules(&code) {
            let edge = (module.clone(), named.clone());
            match (layers.get(&module), layers.get(&named)) {
                (None, _) => wrong.push(format!("{module} is not in the table")),
                // A name re-exported at the crate's root.
                (_, None) if named.starts_with(char::is_uppercase) => {}
                (_, None) => {
                    wrong.push(format!("{} names {named}, which is not in the table", path.display()))
                }
                (Some(_), Some(_)) if exceptions.contains(&edge) => {}
                (Some(own), Some(other)) if own <= other => {}
                _ => wrong.push(format!("{} names {named}, which is above it", path.display())),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_shell_names_the_operating_system() {
    let mut wrong = Vec::new();
    for (path, code) in sources() {
        if SHELL.contains(&module_of(&path).as_str()) {
            continue;
        }
        for (word, instead) in OF_THE_SHELL {
            if code.contains(word) {
                wrong.push(format!("{}: `{word}` belongs to the shell; use {instead}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_are_short_enough_to_read() {
    for path in rust_files() {
        let lines = read(&path).lines().count();
        assert!(lines <= FILE_LINES_MAX, "{}: {lines} lines", path.display());
    }
}

#[test]
fn files_say_in_their_first_line_what_they_answer() {
    let is_faceless = |path: &PathBuf| path.ends_with("tests.rs") || path.ends_with("src/main.rs");
    for path in rust_files().filter(|path| !is_faceless(path)) {
        assert!(read(&path).starts_with("//!"), "{} has no face", path.display());
    }
}

#[test]
fn nothing_banned_is_said() {
    let mut wrong = Vec::new();
    for path in rust_files().filter(|path| !path.ends_with("tidy.rs")) {
        let text = read(&path);
        let open_task = text.contains("TODO") && !text.contains("TODO(#");
        if open_task {
            wrong.push(format!("{}: TODO without a number", path.display()));
        }
        for (word, instead) in BANNED {
            if text.contains(word) {
                wrong.push(format!("{}: {word:?}: {instead}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    let mut wrong = Vec::new();
    let documents = files_under(&root().join("docs"), "md")
        .chain(files_under(&root().join("boards"), "md"))
        .chain(files_under(&root().join("examples"), "md"))
        .chain(["README.md", "CHANGELOG.md"].map(|name| root().join(name)));
    for path in documents {
        let text = read(&path);
        for link in links_in(&text) {
            let target = link.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !path.parent().unwrap().join(target).exists()
            {
                wrong.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "dead links:\n{}", wrong.join("\n"));
}

/// An operator who sees a word in the log finds it in the documents.
#[test]
fn every_kind_of_event_is_among_the_alarms() {
    let page = read(&root().join("docs/operating/alarms.md"));
    let of_machines = |path: &Path| ["worker", "mqtt"].contains(&module_of(path).as_str());
    let mut kinds = BTreeSet::new();
    for (_, code) in sources().filter(|(path, _)| of_machines(path)) {
        kinds.extend(kinds_in(&code));
    }
    assert!(30 < kinds.len(), "{kinds:?}");
    for kind in kinds {
        assert!(
            page.contains(&format!("`{kind}`")),
            "docs/operating/alarms.md does not say what `{kind}` is"
        );
    }
}

/// What is handed to `count`, `event`, `error` and `give_up` in words of small letters and dashes.
fn kinds_in(code: &str) -> Vec<String> {
    let is_kind = |text: &str| {
        text.starts_with(|letter: char| letter.is_ascii_lowercase())
            && text
                .chars()
                .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-')
    };
    let mut kinds = Vec::new();
    for call in [".count(", ".event(", ".error(", "give_up("] {
        for (at, _) in code.match_indices(call) {
            let (mut depth, mut end) = (1, code.len());
            let behind = at + call.len();
            for (place, letter) in code[behind..].char_indices() {
                depth += i32::from(letter == '(') - i32::from(letter == ')');
                if depth == 0 {
                    end = behind + place;
                    break;
                }
            }
            let texts = code[behind..end].split('"').skip(1).step_by(2);
            kinds.extend(texts.filter(|text| is_kind(text)).map(str::to_owned));
        }
    }
    kinds
}

/// `module -> number of its layer`, the first is the highest.
fn layers_in(architecture: &str) -> BTreeMap<String, usize> {
    let mut layers = BTreeMap::new();
    let rows = architecture.lines().filter_map(|line| line.strip_prefix("| "));
    for row in rows {
        let mut cells = row.split('|');
        let Some(layer) = cells.next().and_then(|cell| cell.trim().parse().ok()) else {
            continue;
        };
        for module in cells.next().unwrap_or_default().split('`').skip(1).step_by(2) {
            layers.insert(module.to_owned(), layer);
        }
    }
    layers
}

/// Lines of the form "- `a` names `b`: why".
fn exceptions_in(architecture: &str) -> BTreeSet<(String, String)> {
    let mut exceptions = BTreeSet::new();
    for line in architecture.lines().filter(|line| line.starts_with("- `") && line.contains("` names `")) {
        let mut names = line.split('`').skip(1).step_by(2);
        if let (Some(from), Some(to)) = (names.next(), names.next()) {
            exceptions.insert((from.to_owned(), to.to_owned()));
        }
    }
    exceptions
}

/// The modules directly under the crate's root that this code names.
fn named_modules(code: &str) -> BTreeSet<String> {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    let mut named = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => {
                named.insert(rest.chars().take_while(|letter| is_word(*letter)).collect());
            }
            Some(group) => {
                let group = group.split('}').next().unwrap_or_default();
                let firsts = group.split(',').map(|name| name.trim().split("::").next().unwrap_or_default());
                named.extend(firsts.filter(|name| !name.is_empty()).map(str::to_owned));
            }
        }
    }
    named
}

/// The sources of the library and the binary, without tests and comments.
fn sources() -> impl Iterator<Item = (PathBuf, String)> {
    let is_test = |path: &PathBuf| {
        path.ends_with("tests.rs") || path.components().any(|component| component.as_os_str() == "tests")
    };
    files_under(&root().join("src"), "rs").filter(move |path| !is_test(path)).map(|path| {
        let code = code_of(&read(&path));
        (path.strip_prefix(root().join("src")).unwrap().to_owned(), code)
    })
}

fn code_of(text: &str) -> String {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().map(|line| match line.find("//") {
        // Not a comment: an address in a text.
        Some(at) if 0 < at && line.as_bytes()[at - 1] == b':' => line,
        Some(at) => &line[..at],
        None => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// `mqtt/session.rs` and `mqtt/mod.rs` are of `mqtt`, `address.rs` is `address`.
fn module_of(path: &Path) -> String {
    let first = path.iter().next().unwrap().to_str().unwrap();
    first.strip_suffix(".rs").unwrap_or(first).to_owned()
}

fn links_in(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("](").filter_map(|(at, opening)| text[at + opening.len()..].split(')').next())
}

fn rust_files() -> impl Iterator<Item = PathBuf> {
    ["src", "tests", "benches", "examples"].into_iter().flat_map(|name| files_under(&root().join(name), "rs"))
}

/// All files with this ending, in order; none if there is no such directory.
fn files_under(directory: &Path, extension: &str) -> std::vec::IntoIter<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_under(&path, extension));
        } else if path.extension().is_some_and(|ending| ending == extension) {
            found.push(path);
        }
    }
    found.sort();
    found.into_iter()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_readers_of_this_test_read() {
    let code = code_of(
        "use crate::{address::X, state::key};\nfn f() { crate::node::g() } // crate::cli\n#[cfg(test)]\ncrate::sim",
    );
    let named = named_modules(&code);
    assert_eq!(named.iter().map(String::as_str).collect::<Vec<_>>(), ["address", "node", "state"]);
    let code =
        "a.count(if b { \"x-y\" } else { \"z\" }); w.event(\"k\", format!(\"Not (this)\")); c(\"not-this\")";
    assert_eq!(kinds_in(code), ["x-y", "z", "k"]);
    let text = "| 2 | `cli`, `run` | x |\n| 10 | `store` | y |\n- `store` names `cli`: because\n";
    assert_eq!(layers_in(text).get("run"), Some(&2));
    assert_eq!(layers_in(text).get("store"), Some(&10));
    assert!(exceptions_in(text).contains(&("store".to_owned(), "cli".to_owned())));
    assert_eq!(links_in("see [a](b.md#c) and [d](e)").collect::<Vec<_>>(), ["b.md#c", "e"]);
}
