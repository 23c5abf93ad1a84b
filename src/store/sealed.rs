//! How are bytes that outlive an upgrade told from garbage? A magic, a length, a checksum, then CBOR with numbered fields.
//!
//! ```text
//!  0  magic              8 bytes
//!  8  length of the CBOR u32 LE
//! 12  CRC32C             u32 LE, over bytes 0..12 and the CBOR
//! 16  CBOR
//! ```

/// Bytes before the CBOR.
const HEAD_BYTES: usize = 16;

/// Appends `value`, sealed.
pub(super) fn seal<T: minicbor::Encode<()>>(out: &mut Vec<u8>, magic: [u8; 8], value: &T) {
    let start = out.len();
    out.extend_from_slice(&magic);
    out.extend_from_slice(&[0; HEAD_BYTES - 8]);
    match minicbor::encode(value, &mut *out) {
        Ok(()) => {}
        Err(error) => unreachable!("memory takes every byte: {error}"),
    }
    let Ok(length) = u32::try_from(out.len() - start - HEAD_BYTES) else {
        unreachable!("headers and manifests are small")
    };
    out[start + 8..start + 12].copy_from_slice(&length.to_le_bytes());
    let checksum = checksum(&out[start..start + 12], &out[start + HEAD_BYTES..]);
    out[start + 12..start + HEAD_BYTES].copy_from_slice(&checksum.to_le_bytes());
}

/// Opens what [`seal`] wrote at the beginning of `bytes`; `None` if it is anything else.
pub(super) fn unseal<'b, T: minicbor::Decode<'b, ()>>(bytes: &'b [u8], magic: [u8; 8]) -> Option<T> {
    let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let length = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
    let stored = u32::from_le_bytes([head[12], head[13], head[14], head[15]]);
    let body = rest.get(..usize::try_from(length).ok()?)?;
    if head[..8] != magic || checksum(&head[..12], body) != stored {
        return None;
    }
    minicbor::decode(body).ok()
}

fn checksum(head: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(head), body)
}
