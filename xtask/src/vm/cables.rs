//! Network cards of the virtual machine, with cables between them: what is tested on them meets a real driver.
//!
//! A cable is a bridge with two taps in a network of the emulator's own, which takes no root. Where there can be none, it is a hub
//! inside the emulator, and then cards have one queue each.

use std::process::{Command, Stdio};

/// How many, as a lab's gateway has links.
const CABLES: usize = 3;

/// How the machine's cards are connected.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cables {
    /// By taps with so many queues.
    Taps(usize),
    /// Inside the emulator.
    Hubs,
}

impl Cables {
    /// The best that can be made here, for a machine with so many processors.
    pub(super) fn find(processors: usize) -> Self {
        let mut probe = enter();
        probe.args(["sh", "-c", &script(1), "sh", "true"]).stdin(Stdio::null());
        match probe.output() {
            // A program on the driver gets send queues of its own, one for each processor.
            Ok(output) if output.status.success() => Self::Taps(2 * processors),
            Ok(output) => Self::hubs(String::from_utf8_lossy(&output.stderr).trim()),
            Err(e) => Self::hubs(&e.to_string()),
        }
    }

    fn hubs(reason: &str) -> Self {
        eprintln!(
            "the machine's network cards get one queue each, as there can be no taps here: {reason}"
        );
        Self::Hubs
    }

    /// Pairs of queues of each card.
    pub(super) fn queues(self) -> usize {
        match self {
            Self::Taps(queues) => queues,
            Self::Hubs => 1,
        }
    }

    /// How the emulator is called.
    pub(super) fn command(self, emulator: &str) -> Command {
        match self {
            Self::Hubs => Command::new(emulator),
            Self::Taps(_) => {
                let mut command = enter();
                command.args(["sh", "-c", &script(CABLES), "sh", emulator]);
                command
            }
        }
    }

    /// What the emulator is told of them.
    pub(super) fn arguments(self) -> Vec<String> {
        let ends = (0..CABLES).flat_map(|cable| [(cable, 0), (cable, 1)]);
        ends.flat_map(|(cable, end)| {
            let (id, mac) = (format!("t{cable}{end}"), mac(cable, end));
            let (netdev, queues) = match self {
                Self::Hubs => (format!("hubport,id={id},hubid={cable}"), String::new()),
                Self::Taps(queues) => (
                    format!("tap,id={id},ifname={id},queues={queues},script=no,downscript=no"),
                    // Two interrupts a pair, one for changes, one for commands.
                    format!(",mq=on,vectors={}", 2 * queues + 2),
                ),
            };
            // As much room as there may be: an emulator on a busy machine is away for long.
            let card = format!("virtio-net-pci,netdev={id},mac={mac},rx_queue_size=1024{queues}");
            ["-netdev".to_owned(), netdev, "-device".to_owned(), card]
        })
        .collect()
    }

    /// For the lab (tests/README.md).
    pub(super) fn environment(self) -> String {
        let pairs = (0..CABLES).map(|cable| format!("{}-{}", mac(cable, 0), mac(cable, 1)));
        format!(
            "FERNPASS_LAB_CABLES='{}' FERNPASS_LAB_QUEUES={}",
            pairs.collect::<Vec<_>>().join(" "),
            self.queues()
        )
    }
}

fn mac(cable: usize, end: usize) -> String {
    format!("02:fe:00:00:{cable:02x}:{end:02x}")
}

/// Into a network of its own: as root of a namespace of users, for who is none.
fn enter() -> Command {
    let mut command = Command::new("unshare");
    command.arg("--net");
    if !crate::suitable::is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
}

/// Lays the cables, and becomes the program that its arguments say.
fn script(cables: usize) -> String {
    format!(
        "set -e
         for cable in $(seq 0 {}); do
             ip link add cable$cable type bridge mcast_snooping 0
             ip link set cable$cable addrgenmode none up
             for end in 0 1; do
                 ip tuntap add dev t$cable$end mode tap multi_queue
                 # An emulated processor may be away for long.
                 ip link set t$cable$end txqueuelen 20000
                 ip link set t$cable$end addrgenmode none master cable$cable up
             done
         done
         exec \"$@\"",
        cables - 1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_card_is_named_to_the_lab() {
        for cables in [Cables::Taps(4), Cables::Hubs] {
            let (arguments, told) = (cables.arguments().join(" "), cables.environment());
            assert_eq!(arguments.matches("virtio-net-pci").count(), 6);
            for cable in 0..3 {
                for end in 0..2 {
                    let mac = mac(cable, end);
                    assert!(arguments.contains(&mac) && told.contains(&mac), "{mac}");
                }
            }
        }
        assert!(Cables::Taps(4).arguments().join(" ").contains("queues=4,"));
    }
}
