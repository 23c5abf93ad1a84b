//! `doctor`: is this board fit for the module, and what is to be done? `doctor --accept`: a person has seen what was lost.

use std::path::Path;

use super::arguments::Doctor;
use super::judge::{self, Finding, Verdict};
use super::{Exit, Failure, ask, load, say};
use crate::Module;
use crate::admin::{AdminReply, AdminRequest};
use crate::host::{admin, clock, examine, sensors};
use crate::module::Specification;

pub(super) fn doctor(module: &Module, arguments: &Doctor) -> Result<Exit, Failure> {
    if arguments.accept {
        return accept(arguments);
    }
    let findings = examine(module, arguments)?;
    let worst = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
    if arguments.json {
        say(&serde_json::json!({ "worst": worst, "findings": findings }).to_string());
    } else {
        for Finding { check, verdict, text, advice } in &findings {
            let verdict = match verdict {
                Verdict::Ok => "ok  ",
                Verdict::Warn => "warn",
                Verdict::Fail => "FAIL",
            };
            say(&format!("{verdict}  {check}: {text}"));
            if let Some(advice) = advice {
                say(&format!("      {advice}"));
            }
        }
    }
    Ok(if worst == Verdict::Fail { Exit::Failed } else { Exit::Done })
}

fn accept(arguments: &Doctor) -> Result<Exit, Failure> {
    match ask::reply(&arguments.data, &AdminRequest::AcceptDegraded)? {
        AdminReply::Done { count: 0 } => say("nothing was lost"),
        AdminReply::Done { count } => say(&format!("accepted: {count} epochs were lost")),
        _ => return Err(Failure(Exit::Failed, "an answer to another question".to_owned())),
    }
    Ok(Exit::Done)
}

fn examine(module: &Module, arguments: &Doctor) -> Result<Vec<Finding>, Failure> {
    let board = load::board(&arguments.board)?;
    let running = admin::ask(&arguments.data, &AdminRequest::Status).ok().flatten();
    let mut findings = vec![node(running.as_deref())];
    let specification = load::module_text(module.embedded(), arguments.module.as_deref())
        .and_then(|(name, text)| load::specification(&name, &text, &board));
    let specification = match specification {
        Ok(specification) => {
            findings.push(Finding::ok("module", "right, as far as it can be told without its functions"));
            Some(specification)
        }
        Err(Failure(_, error)) if arguments.module.is_none() && module.embedded().is_none() => {
            let advice = "name one, and its brokers, endpoints and ports are looked at, too";
            findings.push(Finding::warn("module", error, advice));
            None
        }
        Err(Failure(_, error)) => {
            findings.push(Finding::fail("module", error, "see `fogfun check`"));
            None
        }
    };
    let sensors = sensors::read();
    findings.push(judge::clock(clock::proven_wall_ms().is_some()));
    findings.push(judge::memory_groups(examine::has_memory_groups(), examine::command_line_file()));
    findings.push(judge::temperature(sensors.temperature_milli));
    findings.push(judge::power(sensors.throttled));
    findings.push(judge::page_size(examine::page_bytes()));
    let connections = specification.as_ref().map_or(0, connections);
    findings.push(judge::descriptors(examine::descriptors_max(), connections));
    findings.extend(disk(&arguments.data, &board));
    if let Some(specification) = &specification {
        findings.extend(ports(specification, running.is_some()));
        for session in &specification.sessions {
            findings.extend(judge::broker(session, &examine::broker(session)));
        }
    }
    Ok(findings)
}

/// The node that runs on the directory, if one does.
fn node(answer: Option<&str>) -> Finding {
    let Some(answer) = answer else { return Finding::ok("node", "none runs on this data directory") };
    let status: serde_json::Value = serde_json::from_str(answer).unwrap_or_default();
    let node = &status["node"];
    if let Some(lost) = node["degraded"].as_str() {
        let advice =
            "see what it means for your data, then `fogfun doctor --accept` (docs/operating/alarms.md)";
        return Finding::warn("node", format!("degraded: {lost}"), advice);
    }
    let latched = node["control"]["latched"].as_str().or_else(|| node["store"]["latched"].as_str());
    if let Some(latched) = latched {
        return Finding::fail(
            "node",
            format!("storage has failed: {latched}"),
            "see free space and the kernel's log",
        );
    }
    Finding::ok("node", if node["serving"] == true { "serves" } else { "starts or stops" })
}

fn disk(data: &Path, board: &crate::module::Board) -> Vec<Finding> {
    let Some(directory) = examine::nearest(data) else {
        return vec![Finding::fail(
            "storage",
            format!("{}: no such path", data.display()),
            "name another `--data`",
        )];
    };
    let wrong = |name: &str, error: std::io::Error| {
        Finding::fail(name, format!("{}: {error}", directory.display()), "run it as the user of the node")
    };
    vec![
        examine::free_bytes(&directory)
            .map_or_else(|error| wrong("free-space", error), |free| judge::free_space(free, board)),
        examine::storage(&directory)
            .map_or_else(|error| wrong("storage", error), |storage| judge::storage(&storage)),
    ]
}

fn ports(specification: &Specification, is_running: bool) -> Vec<Finding> {
    let of = |http: &crate::http_config::HttpConfig| {
        let name = format!("port {}", http.name);
        match examine::bind(http.listen) {
            Ok(()) => Finding::ok(&name, format!("{} is free", http.listen)),
            Err(error) if is_running && error.kind() == std::io::ErrorKind::AddrInUse => {
                Finding::ok(&name, format!("{} is taken, as it should be while a node runs", http.listen))
            }
            Err(error) => {
                let advice = "who else listens there? `ss -ltnp`";
                Finding::fail(&name, format!("{}: {error}", http.listen), advice)
            }
        }
    };
    specification.http.iter().map(|http| of(http)).collect()
}

/// Sockets that a module may have open at the same time.
fn connections(specification: &Specification) -> u64 {
    let endpoints = specification.endpoints.iter().map(|endpoint| u64::from(endpoint.transport.pool_size));
    specification.sessions.len() as u64 + specification.http.len() as u64 + endpoints.sum::<u64>()
}
