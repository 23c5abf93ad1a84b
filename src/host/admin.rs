//! How does a person ask a running node? Over the UNIX socket `admin.sock` in the data directory, one JSON line each way.
//!
//! The socket's mode is 0600: who may write the data may ask. [`merge`] makes one answer of all workers'.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use smol::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use smol::{Async, LocalExecutor};

use super::clients::serve_clients;
use super::inbox::Inbox;
use super::shell::Event;
use crate::admin::{AdminReply, AdminRequest};

/// Longest question in bytes: a value of the largest size in base64, twice over. A longer one is refused.
pub const QUESTION_BYTES_MAX: u64 = 1024 * 1024;
/// Clients at a time; a further one is closed at once.
pub const CLIENTS_MAX: usize = 16;
/// How long a client of the command line waits for an answer: a change is answered when it is durable, and a card may stall.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// Where the socket of a data directory is.
#[must_use]
pub fn socket_path(data: &Path) -> PathBuf {
    data.join("admin.sock")
}

/// Listens, and posts every question as an [`Event::Admin`].
///
/// # Errors
/// If the socket cannot be made. One left behind by a killed process is replaced: the caller holds the directory's lock.
pub fn listen(
    data: &Path,
    executor: &Rc<LocalExecutor<'static>>,
    inbox: &Arc<Inbox<Event>>,
) -> io::Result<()> {
    let path = socket_path(data);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let listener = Async::new(listener)?;
    let inbox = Arc::clone(inbox);
    let serve = move |stream| {
        let inbox = Arc::clone(&inbox);
        async move { serve(stream, &inbox).await }
    };
    let accept = async move || listener.accept().await.map(|(stream, _)| stream);
    let on_full = || log::warn!("admin socket: more than {CLIENTS_MAX} clients");
    serve_clients("admin socket", CLIENTS_MAX, executor, accept, serve, on_full);
    Ok(())
}

async fn serve(stream: Async<UnixStream>, inbox: &Inbox<Event>) -> io::Result<()> {
    let mut lines = smol::io::BufReader::new(&stream);
    loop {
        let mut line = Vec::new();
        (&mut lines).take(QUESTION_BYTES_MAX).read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            return Ok(());
        }
        let (answer, answered) = smol::channel::bounded(1);
        let mut text = match AdminRequest::decode(&line) {
            Ok(question) => {
                inbox.push(Event::Admin { question, answer });
                answered.recv().await.unwrap_or_else(|_| error_line("the node is stopping"))
            }
            Err(error) => error_line(&format!("not a question: {error}")),
        };
        text.push('\n');
        (&stream).write_all(text.as_bytes()).await?;
    }
}

fn error_line(text: &str) -> String {
    to_line(&AdminReply::Error { text: text.into() })
}

/// Asks the node that runs on a data directory; `None` if none runs.
///
/// # Errors
/// If the socket breaks or no answer comes in [`ANSWER_TIME_MAX`].
pub fn ask(data: &Path, question: &AdminRequest) -> io::Result<Option<String>> {
    let mut stream = match UnixStream::connect(socket_path(data)) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    let mut line = serde_json::to_vec(question)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer)?;
    if answer.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(Some(answer)) }
}

/// Which worker answers a question; `None`: every one.
#[must_use]
pub fn owner(question: &AdminRequest, workers: usize) -> Option<usize> {
    match question {
        AdminRequest::StateGet { id, .. }
        | AdminRequest::StateSet { id, .. }
        | AdminRequest::StateDelete { id, .. }
        | AdminRequest::StateList { id: Some(id), .. } => {
            Some(crate::key_group::KeyGroup::of(id).worker(workers))
        }
        _ => None,
    }
}

/// One line of JSON out of the workers' answers, in the order of workers, which is that of keys.
#[must_use]
pub fn merge(question: &AdminRequest, node: &serde_json::Value, answers: Vec<AdminReply>) -> String {
    match question {
        AdminRequest::Status => to_line(&serde_json::json!({ "node": node, "workers": answers })),
        AdminRequest::StateList { entries_max, .. } | AdminRequest::DeadLetterList { entries_max, .. } => {
            to_line(&merge_replies(answers, usize::try_from(*entries_max).unwrap_or(usize::MAX)))
        }
        _ => to_line(&merge_replies(answers, usize::MAX)),
    }
}

/// Lists are joined, counts added; an error stands if no worker had anything.
fn merge_replies(answers: Vec<AdminReply>, entries_max: usize) -> AdminReply {
    let mut merged: Option<AdminReply> = None;
    let mut error = None;
    for answer in answers {
        merged = match (merged, answer) {
            (merged, AdminReply::Error { text }) => {
                error.get_or_insert(text);
                merged
            }
            (
                Some(AdminReply::State { mut entries, more }),
                AdminReply::State { entries: next, more: more_of_next },
            ) => {
                entries.extend(next);
                Some(AdminReply::State { entries, more: more || more_of_next })
            }
            (
                Some(AdminReply::DeadLetters { mut letters, more }),
                AdminReply::DeadLetters { letters: next, more: more_of_next },
            ) => {
                letters.extend(next);
                Some(AdminReply::DeadLetters { letters, more: more || more_of_next })
            }
            (Some(AdminReply::Done { count }), AdminReply::Done { count: next }) => {
                Some(AdminReply::Done { count: count + next })
            }
            (None, answer) => Some(answer),
            (merged, _) => merged,
        };
    }
    match (merged, error) {
        (Some(AdminReply::State { mut entries, more }), error) if error.is_none() || !entries.is_empty() => {
            let more = more || entries_max < entries.len();
            entries.truncate(entries_max);
            AdminReply::State { entries, more }
        }
        (Some(AdminReply::DeadLetters { mut letters, more }), error)
            if error.is_none() || !letters.is_empty() =>
        {
            let more = more || entries_max < letters.len();
            letters.truncate(entries_max);
            AdminReply::DeadLetters { letters, more }
        }
        (Some(AdminReply::Done { count }), error) if error.is_none() || 0 < count => {
            AdminReply::Done { count }
        }
        (_, Some(text)) => AdminReply::Error { text },
        (Some(other), None) => other,
        (None, None) => AdminReply::Error { text: "no worker answered".into() },
    }
}

/// One line of JSON.
pub(super) fn to_line(value: &impl serde::Serialize) -> String {
    match serde_json::to_string(value) {
        Ok(text) => text,
        Err(error) => unreachable!("names and numbers always encode: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(count: u64) -> AdminReply {
        AdminReply::Done { count }
    }

    fn unknown() -> AdminReply {
        AdminReply::Error { text: "no such letter".into() }
    }

    #[test]
    fn one_worker_that_knows_outweighs_those_that_do_not() {
        let merged = merge_replies(vec![unknown(), done(2), done(0)], usize::MAX);
        assert_eq!(merged, done(2));
        assert_eq!(merge_replies(vec![unknown(), done(0)], usize::MAX), unknown());
        assert_eq!(merge_replies(vec![done(0)], usize::MAX), done(0));
    }
}
