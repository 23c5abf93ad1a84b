//! How much of everything? Every bound of FogFun, with its unit, what it costs and what happens when it is reached.
//!
//! A bound that a board may choose is a field of [`Board`](crate::module::Board); the constants here hold on every board.
//! Their relations are assertions at compile time, so a bad edit does not build.

/// Key groups of a data directory (hash of the id modulo this). Fixed when the directory is created.
pub const KEY_GROUPS: u16 = 128;

/// Longest id of an address, in bytes of UTF-8. With the next two it keeps every key within LMDB's 511 bytes.
pub const ID_BYTES_MAX: usize = 160;
/// Longest function type `namespace/name`, in bytes of UTF-8.
pub const FUNCTION_TYPE_BYTES_MAX: usize = 120;
/// Longest name of a persisted state, in bytes of UTF-8.
pub const STATE_NAME_BYTES_MAX: usize = 64;
/// Longest key of a [`PersistedTable`](crate::PersistedTable) entry, in bytes of its encoding.
pub const TABLE_KEY_BYTES_MAX: usize = 128;
/// Longest cancellation token, in bytes of UTF-8.
pub const TOKEN_BYTES_MAX: usize = 128;
/// LMDB's bound on a key (`mdb_env_get_maxkeysize`), in bytes.
pub const BASE_KEY_BYTES_MAX: usize = 511;

/// Longest value of a state, argument of a message or payload of a record, in bytes (256 KiB: a 64 MiB budget holds
/// many of them, and no sensor sends more).
pub const VALUE_BYTES_MAX: usize = 256 * 1024;

/// Workers of one node at most: barriers and credits are kept in words of this many bits.
pub const WORKERS_MAX: usize = 64;

// group + kind + three length bytes + what they count + the longest tail (a table's key).
const _: () = assert!(
    2 + 1 + 3 + ID_BYTES_MAX + FUNCTION_TYPE_BYTES_MAX + STATE_NAME_BYTES_MAX + TABLE_KEY_BYTES_MAX
        <= BASE_KEY_BYTES_MAX
);
// A length is one byte in a key.
const _: () = assert!(ID_BYTES_MAX <= 255 && FUNCTION_TYPE_BYTES_MAX <= 255 && STATE_NAME_BYTES_MAX <= 255);
const _: () = assert!(WORKERS_MAX <= KEY_GROUPS as usize);

/// Longest topic name or filter, in bytes of UTF-8: MQTT counts them with 16 bits.
pub const TOPIC_BYTES_MAX: usize = 65_535;
/// Longest message id that an ingress remembers, in bytes; a longer one makes its record a dead letter.
pub const MESSAGE_ID_BYTES_MAX: usize = 128;
/// Longest scope of a message id (a topic or a captured level), in bytes; it is part of a key of the base.
pub const SCOPE_BYTES_MAX: usize = 256;
/// Message ids that one scope of an ingress may remember; each is 8 bytes that every record of the scope writes again.
pub const MESSAGE_IDS_REMEMBERED_MAX: u16 = 1_024;
/// Largest `module.yaml`, in bytes; a larger one is refused unread.
pub const MODULE_BYTES_MAX: usize = 1 << 20;
/// Deepest nesting of a `module.yaml`; the deepest field that means something is six levels down.
pub const MODULE_DEPTH_MAX: usize = 32;
/// YAML nodes of a `module.yaml`, aliases counted as often as they are used (some 100 bytes each while it is read).
pub const MODULE_NODES_MAX: usize = 100_000;
/// Errors that one load reports; what is beyond is counted.
pub const LOAD_ERRORS_MAX: usize = 50;
/// Topics of one ingress: every pair of them is checked for overlap.
pub const INGRESS_TOPICS_MAX: usize = 256;

// group + kind + length byte + session name + scope.
const _: () = assert!(2 + 1 + 1 + FUNCTION_TYPE_BYTES_MAX + SCOPE_BYTES_MAX <= BASE_KEY_BYTES_MAX);
/// What the effects of one invocation may hold before they are the function's error, in bytes of memory (4 MiB: 16 of the
/// largest values). A function that sends without end ends here, not when the board is out of memory.
pub const EFFECTS_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest delay of a delayed message, in milliseconds (100 years). With it no due time can overflow.
pub const DELAY_MS_MAX: u64 = 100 * 365 * 24 * 60 * 60 * 1000;

const _: () = assert!(2 * VALUE_BYTES_MAX <= EFFECTS_BYTES_MAX);
/// Operations of one worker that run at the same time, each on a thread; further ones wait, and are seen in `status`.
pub const OPERATIONS_RUNNING_MAX: usize = if cfg!(test) { 2 } else { 16 };
/// How far a new log segment is filled with zeros ahead of what is written, in bytes: an append into written blocks changes no
/// file metadata, so its sync costs one flush, not two. A segment that was recycled needs none of it.
pub const ZERO_AHEAD_BYTES: u64 = 128 * 1024;
/// Keys and values that one pass of a fold gathers at most, in bytes (4 MiB of heap while a fold runs). A log with more
/// distinct bytes is read once more for each further part. Tests take several parts.
pub const FOLD_RANGE_BYTES: usize = if cfg!(test) { 600 } else { 4 * 1024 * 1024 };
/// An append buffer that grew beyond this many bytes is given back after the append (a lone large epoch must not hold memory).
pub const APPEND_BUFFER_KEPT_BYTES: usize = 1024 * 1024;
/// How often an unreadable page of the log is read again before it counts as damaged.
pub const READ_ATTEMPTS_MAX: u32 = 3;
/// States that a remote function of one type may declare (chosen: SDK users declare a handful). Each is some 200 bytes per worker
/// and, at least by name, part of every request; a reply that declares more is the function's error.
pub const STATES_PER_FUNCTION_TYPE_MAX: usize = 1_024;
/// Invocations of one request to an endpoint at most, whatever its document says. An SDK holds all their effects at once.
pub const BATCH_INVOCATIONS_MAX: u32 = 10_000;
/// Header fields that an endpoint's document may add to requests; sent with each.
pub const ENDPOINT_HEADERS_MAX: usize = 16;
/// Longest value of such a header field, in bytes: a token is some hundred, servers take 8 KiB of all fields.
pub const HEADER_BYTES_MAX: usize = 4_096;
/// Topics of a playground's egress; each is a queue.
pub const PLAYGROUND_TOPICS_MAX: usize = 256;
/// Dead letters that one worker keeps; beyond, its ingress closes and an address whose message would be one more goes on trying,
/// until a person retries or drops some. Generous for what a person can look at (some 5 MB of storage at 500 bytes each).
pub const DEAD_LETTERS_MAX: u64 = 10_000;
/// Bytes of keys and values of the dead letters that one worker keeps, in storage; at the bound as at [`DEAD_LETTERS_MAX`]. What
/// is under way when it is reached (a receive maximum of records, a window of refusals) still comes on top.
pub const DEAD_LETTER_BYTES_MAX: u64 = 16 * 1024 * 1024;
