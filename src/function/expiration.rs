//! How long does a state live? For ever, or for a time after it was last written, or last used.

use std::time::Duration;

use crate::function::effects::StateValue;

/// When a persisted state ceases to be. Each entry of a table and each element of a buffer has its own time.
///
/// Runtime time counts, also while the node is down as far as its clock can prove it. From the instant on an entry is absent,
/// wherever it still lies. A changed expiration concerns what is written (or, after call, read) from then on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Expiration {
    /// Never.
    #[default]
    None,
    /// So long after it was last written. Less than 1 ms counts as 1 ms, and parts of one as a whole.
    AfterWrite(Duration),
    /// So long after it was last read or written. A read then writes too: what is read is put again with its new end.
    AfterCall(Duration),
}

impl Expiration {
    /// When a value written at `now_ms` ceases to be.
    #[must_use]
    pub(crate) fn written_at(self, now_ms: u64) -> Option<u64> {
        match self {
            Self::None => None,
            Self::AfterWrite(life) | Self::AfterCall(life) => {
                let life_ms = life.as_nanos().div_ceil(1_000_000).max(1);
                Some(now_ms.saturating_add(u64::try_from(life_ms).unwrap_or(u64::MAX)))
            }
        }
    }

    /// The value as a read at `now_ms` leaves it, if the read changes its end.
    #[must_use]
    pub(crate) fn read_at(self, now_ms: u64, value: &StateValue) -> Option<StateValue> {
        let Self::AfterCall(_) = self else {
            return None;
        };
        let expires_at_ms = self.written_at(now_ms);
        (expires_at_ms != value.expires_at_ms).then(|| StateValue { expires_at_ms, ..value.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_whole_milliseconds_and_never_overflows() {
        assert_eq!(Expiration::None.written_at(5), None);
        assert_eq!(Expiration::AfterWrite(Duration::ZERO).written_at(5), Some(6));
        assert_eq!(Expiration::AfterWrite(Duration::from_micros(1500)).written_at(5), Some(7));
        assert_eq!(Expiration::AfterCall(Duration::MAX).written_at(5), Some(u64::MAX));
    }
}
