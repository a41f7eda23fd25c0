//! What the operator wants: the configuration file, read and checked.
//!
//! [`Config::parse`] turns the text into plain types, or into *every* mistake at
//! once, each with its line, column and mend. Nothing here looks at the machine:
//! whether an interface exists or a socket can be made is for the daemon to find.
//!
//! The rooms: `types` is what the rest of the program sees; `reader` walks the
//! TOML tree and collects mistakes, with `value` for single values and `rules`
//! for what they may be; `sections` knows the keys of each table and fills a
//! `draft`; `check` compares the tables with each other; `finding` shows a
//! mistake to people.

mod backend_id;
mod check;
mod draft;
mod finding;
mod health;
mod listener;
mod parse;
mod probe_files;
mod reader;
mod rules;
mod sections;
mod server_id;
mod suggest;
mod timing;
mod types;
mod value;

pub use backend_id::{BackendId, BackendIdError};
pub use finding::{ConfigErrors, Finding, Report, Severity};
pub use health::{
    Health, Http, Https, OpenVpn, Payload, PayloadError, Port, Probe, Probing, PublicKey, Share,
    StatusRange, Tls, Trust, Udp, WireGuard,
};
pub use listener::{Family, Listener, ListenerError, Protocol};
pub use parse::ReadError;
#[cfg(feature = "fuzz")]
pub(crate) use probe_files::Contents;
pub use probe_files::{Authorities, ControlKey, FileOf, WireGuardKey};
pub use server_id::{ServerId, ServerIdError};
pub(crate) use suggest::did_you_mean;
pub use timing::Timing;
pub use types::{
    Affinity, Api, Backend, Budget, Config, Encapsulation, Gateway, HIGHEST_WEIGHT, Limits, Mode,
    Pool, Profile, QuicLb, Rate, Service, Sysctl, Tenant, TenantRates, Tunnel, XdpMode,
};

#[cfg(test)]
mod tests;
