//! The kernel program that watches what leaves.

use std::fmt;
use std::io;

use aya::maps::{HashMap, Map, MapData, PerCpuArray, RingBuf};
use aya::programs::tc::TcError;
use aya::programs::{SchedClassifier, TcAttachType, tc};
use aya::{Ebpf, EbpfLoader};
use dataplane::abi::AddressKey;
use dataplane::watch::{Service, maps};

use crate::loader::{Info, LoadError, PodAddressKey, PodService};
use crate::routing::interfaces;

/// The kernel program, as this build made it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("FERNPASS_AGENT_OBJECT"));
const NAME: &str = "fernpass_agent";

/// The program, attached. It goes with the process from Linux 6.6 on; before that it stays on the interface, until [`Program::leave`].
pub(super) struct Program {
    ebpf: Ebpf,
    lost: PerCpuArray<MapData, u64>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("ebpf", &self.ebpf).finish_non_exhaustive()
    }
}

impl Program {
    /// Loads it, and lets it watch listeners' answers on interfaces.
    pub(super) fn start(
        interfaces: &[String],
        services: &[(AddressKey, Service)],
    ) -> Result<Self, LoadError> {
        for name in interfaces {
            interfaces::index(name)?;
        }
        let failed = "loading the agent's kernel program";
        let mut ebpf = EbpfLoader::new().load(OBJECT).map_err(|e| LoadError::kernel(failed, &e))?;
        let lost = taken(&mut ebpf, maps::LOST)?;
        let mut known: HashMap<MapData, PodAddressKey, PodService> =
            taken(&mut ebpf, maps::SERVICES)?;
        for (key, service) in services {
            known
                .insert(PodAddressKey(*key), PodService(*service), 0)
                .map_err(|e| LoadError::kernel("telling the agent its services", &e))?;
        }
        let program = classifier(&mut ebpf)?;
        program.load().map_err(|e| LoadError::kernel(failed, &e))?;
        Self::leave(interfaces);
        for name in interfaces {
            // Before Linux 6.6 programs of this kind need a queueing discipline, which may be there.
            if program.attach(name, TcAttachType::Egress).is_ok() {
                continue;
            }
            let added = tc::qdisc_add_clsact(name);
            program.attach(name, TcAttachType::Egress).map_err(|e| {
                // That there is none says less than why there could be none.
                let why = added.err().map(|e| format!(" (no clsact can be added: {e})"));
                LoadError::kernel(format!("watching {name}{}", why.unwrap_or_default()), &e)
            })?;
        }
        Ok(Self { ebpf, lost })
    }

    /// Takes it off interfaces where it would outlive its process, which may have been killed.
    pub(super) fn leave(interfaces: &[String]) {
        for name in interfaces {
            match tc::qdisc_detach_program(name, TcAttachType::Egress, NAME) {
                Ok(()) => tracing::info!(interface = name, "an agent's program was taken off"),
                // There is none.
                Err(TcError::IoError(e)) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => tracing::warn!(interface = name, "an agent's program may be left: {e}"),
            }
        }
    }

    /// Loads it for its figures alone.
    pub(super) fn examine() -> Result<Info, LoadError> {
        let mut program = Self::start(&[], &[])?;
        let classifier = classifier(&mut program.ebpf)?;
        let info = classifier.info();
        let info = info.map_err(|e| LoadError::kernel("asking about the agent's program", &e))?;
        Ok(Info::of(NAME, &info))
    }

    /// Where its reports come from: once.
    pub(super) fn take_reports(&mut self) -> Result<RingBuf<MapData>, LoadError> {
        taken(&mut self.ebpf, maps::REPORTS)
    }

    /// How many reports there was no place for.
    pub(super) fn lost(&self) -> Result<u64, LoadError> {
        let values = self
            .lost
            .get(&0, 0)
            .map_err(|e| LoadError::kernel("counting the agent's lost reports", &e))?;
        Ok(values.iter().sum())
    }
}

fn classifier(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier, LoadError> {
    let program = ebpf.program_mut(NAME).and_then(|program| program.try_into().ok());
    program.ok_or_else(|| missing(NAME))
}

fn taken<T: TryFrom<Map>>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, LoadError> {
    ebpf.take_map(name).and_then(|map| T::try_from(map).ok()).ok_or_else(|| missing(name))
}

fn missing(name: &str) -> LoadError {
    LoadError::Kernel {
        what: "loading the agent's kernel program".to_owned(),
        reason: format!("the object has no `{name}`"),
    }
}
