//! Whether there is memory for tables, as far as that can be known before they are made.

use std::fs;
use std::path::Path;

use super::shape::SHAPES;
use super::{LoadError, Sizes};

const MB: u64 = 1 << 20;
/// Left to others.
const RESERVE: u64 = 32 * MB;

/// Looks whether tables of these sizes fit: into what the machine has available, and what the process's control group leaves.
/// Where neither can be read, the kernel has the last word, as ever.
pub(super) fn check(sizes: Sizes) -> Result<(), LoadError> {
    let needed = bytes(sizes);
    for (available, where_) in
        [(of_machine(), ""), (of_group(), " in its control group (`MemoryMax=` of the unit)")]
    {
        let Some(available) = available.filter(|available| needed + RESERVE > *available) else {
            continue;
        };
        return Err(LoadError::Memory {
            sessions: sizes.sessions(),
            needed: needed.div_ceil(MB),
            available: available / MB,
            where_,
        });
    }
    Ok(())
}

/// Bytes of all maps.
pub(crate) fn bytes(sizes: Sizes) -> u64 {
    let fixed =
        |entries: Option<u32>, value: u32| u64::from(entries.unwrap_or(0)) * u64::from(value);
    // Hashes and tries take what they hold, which is little.
    let arrays = SHAPES.iter().filter(|(_, shape)| shape.kind == aya::maps::MapType::Array);
    sizes.bytes() + arrays.map(|(_, shape)| fixed(shape.entries, shape.value)).sum::<u64>()
}

fn of_machine() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// What the process's control group (version 2) leaves, if it has a limit.
fn of_group() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let dir = Path::new("/sys/fs/cgroup").join(own);
    let number = |name| fs::read_to_string(dir.join(name)).ok()?.trim().parse::<u64>().ok();
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_fit_is_refused_with_figures() {
        check(Sizes::for_sessions(1)).unwrap();
        let text =
            check(Sizes { slots: 1 << 31, ..Sizes::for_sessions(1) }).unwrap_err().to_string();
        assert!(text.contains("262") && text.contains("MB are available"), "{text}");
    }
}
