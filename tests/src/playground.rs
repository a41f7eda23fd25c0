//! Labs to play with: set up and left standing, until they are taken down.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

use clap::Subcommand;
use lab::record::{self, Standing};
use lab::{LabError, Result, preflight};
use serde_json::json;

use crate::demo;

/// What can be done with labs.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Verb {
    /// Set up the demo's lab with all its clients and leave it standing
    Up,
    /// Take a lab down: the named one, or all that were left standing
    Down {
        /// The lab's four letters
        id: Option<String>,
    },
    /// Open a shell in a namespace of a lab that stands
    Shell {
        /// gw (the gateway), inet, in, bN (concentrator N) or cN (machine N of the clients)
        #[arg(default_value = "gw")]
        place: String,
        /// The lab's four letters, if more than one stands
        #[arg(long)]
        id: Option<String>,
    },
    /// Show the labs that stand
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Does it; true if it succeeded.
pub(crate) fn run(verb: &Verb) -> Result<bool> {
    match verb {
        Verb::Up => up(),
        Verb::Down { id } => down(id.as_deref()),
        Verb::Shell { place, id } => shell(place, id.as_deref()),
        Verb::Status { json } => status(*json),
    }
}

fn up() -> Result<bool> {
    preflight()?;
    let farm = demo::farm(true)?;
    for member in 0..farm.members().len() {
        farm.reach(member)?;
    }
    println!("{}", demo::commands(&farm)?);
    Ok(true)
}

fn down(id: Option<&str>) -> Result<bool> {
    needs_root()?;
    let labs = record::standing()?;
    let chosen: Vec<&Standing> = match id {
        Some(id) => vec![find(&labs, id)?],
        None => labs.iter().filter(|lab| !lab.owned).collect(),
    };
    if chosen.is_empty() {
        println!("no lab stands");
    }
    for lab in chosen {
        if lab.owned {
            return Err(LabError::Scenario(format!(
                "lab {} belongs to a process that is still running",
                lab.id
            )));
        }
        record::remove(&lab.id)?;
        println!("lab {} is gone", lab.id);
    }
    Ok(true)
}

fn shell(place: &str, id: Option<&str>) -> Result<bool> {
    needs_root()?;
    let labs = record::standing()?;
    let lab = match (id, labs.as_slice()) {
        (Some(id), _) => find(&labs, id)?,
        (None, [only]) => only,
        (None, []) => {
            return Err(LabError::Scenario("no lab stands (`lab up` makes one)".to_owned()));
        }
        (None, several) => {
            return Err(LabError::Scenario(format!(
                "several labs stand ({}): choose one with --id",
                names(several)
            )));
        }
    };
    let name = format!("fp-{}-{place}", lab.id);
    if !lab.namespaces.contains(&name) {
        let places: Vec<&str> =
            lab.namespaces.iter().filter_map(|ns| ns.rsplit('-').next()).collect();
        return Err(LabError::Scenario(format!(
            "lab {} has no {place}, but {}",
            lab.id,
            places.join(", ")
        )));
    }
    let shell = env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let error = Command::new("nsenter").arg(format!("--net=/run/netns/{name}")).arg(shell).exec();
    Err(LabError::Io { what: "running nsenter".to_owned(), source: error })
}

fn status(as_json: bool) -> Result<bool> {
    let labs = record::standing()?;
    if as_json {
        let rows: Vec<_> = labs
            .iter()
            .map(|lab| {
                json!({
                    "id": lab.id, "kept": lab.kept, "owned": lab.owned, "namespaces": lab.namespaces,
                })
            })
            .collect();
        println!("{:#}", json!(rows));
        return Ok(true);
    }
    if labs.is_empty() {
        println!("no lab stands");
    }
    for lab in &labs {
        let state = match (lab.owned, lab.kept) {
            (true, _) => "in use",
            (false, true) => "left standing",
            (false, false) => "abandoned; the next lab takes it down",
        };
        println!("{}  {state}  {}", lab.id, lab.namespaces.join(" "));
    }
    Ok(true)
}

fn find<'a>(labs: &'a [Standing], id: &str) -> Result<&'a Standing> {
    labs.iter().find(|lab| lab.id == id).ok_or_else(|| {
        LabError::Scenario(match labs {
            [] => format!("there is no lab {id}: none stands"),
            labs => format!("there is no lab {id}, but {}", names(labs)),
        })
    })
}

fn names(labs: &[Standing]) -> String {
    labs.iter().map(|lab| lab.id.as_str()).collect::<Vec<_>>().join(", ")
}

fn needs_root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(LabError::Scenario("this needs root".to_owned()))
}
