//! On what it was measured.

use std::fs;

use serde::{Deserialize, Serialize};

/// What of a machine makes a difference.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// The processor's name.
    pub(crate) processor: String,
    /// Processors online.
    pub(crate) processors: usize,
    /// Memory, in MiB.
    pub(crate) memory_mib: u64,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// How the kernel guards indirect branches.
    pub(crate) spectre_v2: String,
}

impl Machine {
    /// Looks at this machine.
    pub(crate) fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split(':').nth(1)).unwrap_or("unknown");
            value.trim().to_owned()
        };
        let processors = read("/proc/cpuinfo");
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or(0);
        let spectre = read("/sys/devices/system/cpu/vulnerabilities/spectre_v2");
        Self {
            processor: field(&processors, "model name"),
            processors: processors.matches("processor\t").count(),
            memory_mib: kib / 1024,
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            spectre_v2: spectre.trim().to_owned(),
        }
    }

    /// It in a line.
    pub(crate) fn line(&self) -> String {
        // What follows the first of the guards is detail.
        let guard = self.spectre_v2.split(';').next().unwrap_or_default();
        format!(
            "{}, {} processors, {} MiB, Linux {}; {guard}",
            self.processor, self.processors, self.memory_mib, self.kernel
        )
    }
}
