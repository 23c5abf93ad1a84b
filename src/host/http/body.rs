//! What does a response's body say? Its bytes, decompressed as they come, and never more of them than the bound.

use std::future::poll_fn;
use std::io::{self, ErrorKind, Write};
use std::pin::Pin;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use hyper::HeaderMap;
use hyper::body::{Body, Incoming};
use hyper::header::CONTENT_ENCODING;

use super::failure::Failure;
use crate::remote::call::CallFailure;

/// Room made for a body before it comes, in bytes; what a server announces is no reason to make more.
const BODY_BYTES_FIRST: usize = 64 * 1024;
/// Bytes decompressed at a time.
const PIECE_BYTES: usize = 16 * 1024;
/// A body of fewer bytes is copied, so that it does not hold on to a connection's read buffer.
const COPIED_BYTES_MAX: usize = 16 * 1024;

/// How a body is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Deflate,
}

impl Encoding {
    /// What the header says.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Failure> {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        let (first, second) = (values.next(), values.next());
        let name = first.map_or("", |value| value.to_str().unwrap_or("?")).trim();
        match name.to_ascii_lowercase().as_str() {
            "" | "identity" if second.is_none() => Ok(Self::Identity),
            "gzip" | "x-gzip" if second.is_none() => Ok(Self::Gzip),
            "deflate" if second.is_none() => Ok(Self::Deflate),
            _ => Err(malformed(format!("compressed as `{name}`, which was not asked for"))),
        }
    }
}

/// Reads a body to its end.
pub(super) async fn collect(
    body: &mut Incoming,
    encoding: Encoding,
    bytes_max: usize,
) -> Result<Bytes, Failure> {
    let announced = body.size_hint().lower();
    if u64::try_from(bytes_max).is_ok_and(|bytes_max| bytes_max < announced) {
        return Err(Failure::too_large(bytes_max));
    }
    let room = usize::try_from(announced).unwrap_or(usize::MAX).min(BODY_BYTES_FIRST);
    let mut sink = Sink::new(encoding, Bounded { bytes: Vec::new(), bytes_max }, room);
    let mut compressed = 0;
    while let Some(frame) = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
        // Trailers say nothing to us.
        let Ok(data) = frame?.into_data() else { continue };
        compressed += data.len();
        if bytes_max < compressed {
            return Err(Failure::too_large(bytes_max));
        }
        if encoding == Encoding::Identity && compressed == data.len() && body.is_end_stream() {
            let is_small = data.len() < COPIED_BYTES_MAX;
            return Ok(if is_small { Bytes::copy_from_slice(&data) } else { data });
        }
        sink.take(&data).map_err(|error| wrong(&error, bytes_max))?;
    }
    if compressed == 0 {
        return Ok(Bytes::new());
    }
    sink.finish().map_err(|error| wrong(&error, bytes_max))
}

fn wrong(error: &io::Error, bytes_max: usize) -> Failure {
    if error.kind() == ErrorKind::FileTooLarge {
        Failure::too_large(bytes_max)
    } else {
        malformed(format!("the body is not compressed as the response says: {error}"))
    }
}

fn malformed(text: String) -> Failure {
    Failure::new(CallFailure::Malformed, text)
}

/// Where a body goes.
enum Sink {
    Identity(Bounded),
    Gzip(Box<MultiGzDecoder<Bounded>>),
    Deflate(Box<Inflate>),
}

impl Sink {
    fn new(encoding: Encoding, mut bounded: Bounded, room: usize) -> Self {
        match encoding {
            Encoding::Identity => {
                bounded.bytes.reserve(room);
                Self::Identity(bounded)
            }
            Encoding::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(bounded))),
            Encoding::Deflate => {
                Self::Deflate(Box::new(Inflate { state: None, is_ended: false, into: bounded }))
            }
        }
    }

    fn take(&mut self, data: &[u8]) -> io::Result<()> {
        match self {
            Self::Identity(bounded) => bounded.write_all(data),
            Self::Gzip(decoder) => decoder.write_all(data),
            Self::Deflate(inflate) => inflate.take(data),
        }
    }

    fn finish(self) -> io::Result<Bytes> {
        let bounded = match self {
            Self::Identity(bounded) => bounded,
            // Checks length and sum.
            Self::Gzip(decoder) => decoder.finish()?,
            Self::Deflate(inflate) if inflate.is_ended => inflate.into,
            Self::Deflate(_) => return Err(ErrorKind::UnexpectedEof.into()),
        };
        Ok(bounded.bytes.into())
    }
}

/// `deflate`: a zlib stream by the letter (RFC 9110), a bare deflate stream as some servers send it.
struct Inflate {
    state: Option<Decompress>,
    is_ended: bool,
    into: Bounded,
}

impl Inflate {
    fn take(&mut self, mut data: &[u8]) -> io::Result<()> {
        let Some(first) = data.first() else { return Ok(()) };
        // zlib begins with method 8; as bare deflate that were a stored block with a one in its padding.
        let state = self.state.get_or_insert_with(|| Decompress::new(first & 0x0f == 8));
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let (taken, given) = (state.total_in(), state.total_out());
            let status = state.decompress(data, &mut piece, FlushDecompress::None)?;
            let taken = usize::try_from(state.total_in() - taken).unwrap_or(usize::MAX);
            let given = usize::try_from(state.total_out() - given).unwrap_or(usize::MAX);
            data = data.get(taken..).unwrap_or_default();
            self.into.write_all(piece.get(..given).unwrap_or_default())?;
            self.is_ended |= status == Status::StreamEnd;
            if self.is_ended && !data.is_empty() {
                return Err(io::Error::new(ErrorKind::InvalidData, "it goes on behind its end"));
            }
            if self.is_ended || (given < piece.len() && data.is_empty()) {
                return Ok(());
            }
            if taken == 0 && given == 0 {
                return Err(io::Error::new(ErrorKind::InvalidData, "it cannot be decompressed"));
            }
        }
    }
}

/// Bytes that end with an error at their bound.
#[derive(Debug)]
struct Bounded {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Write for Bounded {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.bytes_max - self.bytes.len() < data.len() {
            return Err(ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
