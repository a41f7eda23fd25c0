//! Network cards with cables between them, for the gateway's links: what forwards is then the cards' driver.

use std::fs;
use std::time::Duration;

use super::wire::{End, address, connect};
use crate::error::{LabError, Result};
use crate::net::ip_batch;
use crate::wait::until;

/// Names the ends of three cables by their MAC addresses, as `END-END END-END END-END`: for `wan0`, `wan1` and `lan0`, the gateway's
/// end first. Without it these are veths.
const VARIABLE: &str = "FERNPASS_LAB_CABLES";
/// A lab that is taken down gives its cards back when the kernel comes to it.
const RETURN: Duration = Duration::from_secs(30);

/// What the gateway is connected by.
#[derive(Debug)]
pub(super) enum Wiring {
    /// A veth for each link.
    Veths,
    /// The MAC addresses of both ends of each cable. One lab at a time has them.
    Cables([[String; 2]; 3]),
}

impl Wiring {
    /// What this process was started with.
    pub(super) fn from_environment() -> Result<Self> {
        match std::env::var(VARIABLE) {
            Err(_) => Ok(Self::Veths),
            Ok(text) => parse(&text).map(Self::Cables).ok_or_else(|| {
                LabError::Impossible(format!(
                    "{VARIABLE} is {text:?}, which should be three pairs of MAC addresses, as in \
                     \"02:00:00:00:00:01-02:00:00:00:00:02 … …\""
                ))
            }),
        }
    }

    /// Connects two namespaces: by the cable with this number, if there are any.
    pub(super) fn connect(&self, number: usize, a: &End<'_>, b: &End<'_>) -> Result<()> {
        let Self::Cables(cables) = self else { return connect(a, b) };
        for (end, mac) in [a, b].into_iter().zip(&cables[number]) {
            plug(end, mac)?;
        }
        Ok(())
    }
}

fn parse(text: &str) -> Option<[[String; 2]; 3]> {
    let cables = text.split_whitespace().map(|cable| {
        let (a, b) = cable.split_once('-')?;
        Some([a.to_lowercase(), b.to_lowercase()])
    });
    cables.collect::<Option<Vec<_>>>()?.try_into().ok()
}

/// Gives a card to a namespace. Its offloads stay as the driver has them: what it sends is complete when it is on the cable.
fn plug(end: &End<'_>, mac: &str) -> Result<()> {
    let card = until(&format!("a network card {mac}"), RETURN, || Ok(find(mac)))?;
    let (ns, interface) = (end.ns.name(), end.interface);
    ip_batch(None, &[format!("link set {card} down"), format!("link set {card} netns {ns}")])?;
    let mut commands = vec![format!("link set {card} mtu 1500")];
    if card != interface {
        commands.push(format!("link set {card} name {interface}"));
    }
    commands.extend(address(end));
    end.ns.ip(&commands)
}

/// The interface with this address, if it is with this process.
fn find(mac: &str) -> Option<String> {
    let mut all = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let found = all.find(|entry| {
        // A VLAN interface has the address of its card.
        entry.path().join("device").exists()
            && fs::read_to_string(entry.path().join("address")).is_ok_and(|own| own.trim() == mac)
    })?;
    found.file_name().into_string().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cables_are_three_pairs() {
        let cables = parse("02:0a:00:00:00:01-02:0A:00:00:00:02 b-c\nd-e").unwrap();
        assert_eq!(cables[0], ["02:0a:00:00:00:01", "02:0a:00:00:00:02"]);
        assert_eq!(cables[2], ["d", "e"]);
        for wrong in ["", "a-b", "a-b c-d e", "a-b c-d e-f g-h"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
