//! The agent's process on a machine inside.

use std::process::Command;

use super::Gateway;
use crate::error::Result;
use crate::layout::{Lab, Station, plan};
use crate::process::{Child, Launch};
use crate::wait::until;

/// How long it may take to start on a busy machine.
const START: std::time::Duration = std::time::Duration::from_secs(15);

/// A running agent. It ends with its owner.
#[derive(Debug)]
pub struct Agent {
    process: Child,
}

impl Agent {
    /// Starts one on a machine, with the gateway's configuration, and waits until it watches.
    pub fn start(lab: &Lab, gateway: &Gateway, station: &Station) -> Result<Self> {
        let mut command = Command::new(gateway.binary());
        command.arg("agent").arg("-c").arg(gateway.config_file());
        command.args(["-i", "eth0", "-g"]);
        command.arg(format!("{},{}", plan::LAN.v4, plan::LAN.v6));
        let name = format!("agent-{}", station.number());
        let ns = Some(station.ns().fd());
        let launch = Launch { name: &name, dir: lab.dir(), ns, lifetime: lab.lifetime() };
        let log = lab.dir().join(format!("{name}.log"));
        // One before it has written there, too.
        let before = std::fs::metadata(&log).map_or(0, |log| log.len() as usize);
        let mut agent = Self { process: Child::launch(command, launch)? };
        until(&format!("the start of {name}"), START, || {
            agent.process.must_run()?;
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let said = said.get(before..).unwrap_or_default();
            Ok(said.contains("telling of answers").then_some(()))
        })?;
        Ok(agent)
    }

    /// Asks it to end, and waits for it.
    pub fn terminate(mut self) -> Result<()> {
        self.process.terminate(START)
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}
