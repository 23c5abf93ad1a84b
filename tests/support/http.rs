//! What does a server need to read of HTTP/1.1? A request's body, and how to answer it; enough for endpoints of remote functions.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use fogfun::remote::call::CallOutcome;
use fogfun::sim::endpoint::Endpoint;

/// The body of the next request; `None` if the client has closed.
pub fn read_request(reader: &mut BufReader<&TcpStream>) -> std::io::Result<Option<Vec<u8>>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if let Some(number) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = number.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(body))
}

/// The bytes of a whole response.
pub fn response(status: u16, content_type: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// The bytes of what a process with functions answers.
pub fn answer(endpoint: &mut Endpoint, body: &[u8]) -> Vec<u8> {
    match endpoint.answer(body) {
        CallOutcome::Answered { status, content_type, body } => {
            response(status, &content_type.unwrap_or_default(), &body)
        }
        CallOutcome::Failed { text, .. } => panic!("an endpoint always answers: {text}"),
    }
}

/// Serves functions on a free port, a thread for each connection, until the process ends; says which port.
pub fn serve_functions(make: fn() -> Endpoint) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            stream.set_nodelay(true).unwrap();
            std::thread::spawn(move || {
                let (mut endpoint, mut reader) = (make(), BufReader::new(&stream));
                while let Ok(Some(body)) = read_request(&mut reader) {
                    if (&stream).write_all(&answer(&mut endpoint, &body)).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}
