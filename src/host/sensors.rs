//! How hot is the board, and has its power held? Two files of the kernel's, where it has them.

use crate::metrics::Board;

/// What the operating system says of the board. Reading the flags asks the firmware and may take some milliseconds.
#[must_use]
pub fn read() -> Board {
    Board {
        temperature_milli: read_file("/sys/class/thermal/thermal_zone0/temp")
            .and_then(|text| text.parse().ok()),
        throttled: read_file("/sys/devices/platform/soc/soc:firmware/get_throttled")
            .and_then(|text| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok()),
    }
}

fn read_file(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}
