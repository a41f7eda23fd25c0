//! Developer commands: `cargo xtask COMMAND`.
//!
//! This crate builds in seconds and without an eBPF toolchain, because it is what
//! installs one. Everything that needs Fernpass itself is another program of the
//! workspace, which is built and run from here.

mod check;
mod deb;
mod fuzz;
mod process;
mod services;
mod setup;
mod suitable;
mod test;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use setup::Need;
use vm::Kernel;

/// Fernpass's developer commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install what building, testing and the demo need (root on Debian 12), or say what is missing.
    Setup,
    /// Build `fernpass`, optimised, with the kernel program in it.
    Build,
    /// Build the Debian package, and print where it is.
    Deb {
        /// Install, upgrade, remove and purge it in a clean Debian 12 (root), and ask lintian.
        #[arg(long)]
        test: bool,
        /// Test the services instead, under a real systemd inside QEMU, with one of Debian's kernels (6.1 if none is named).
        #[arg(long, value_name = "KERNEL", num_args = 0..=1, default_missing_value = "6.1", requires = "test")]
        vm: Option<Kernel>,
    },
    /// Play the story of the gateway among real VPN peers, with measured results.
    Demo {
        /// wireguard (the whole story), openvpn, ipsec or quic (clients that change their address).
        #[arg(long, default_value = "wireguard", conflicts_with_all = ["keep", "vm"])]
        profile: String,
        /// Print the results as JSON, and nothing else on stdout.
        #[arg(long)]
        json: bool,
        /// Leave the lab standing, with the commands to explore it.
        #[arg(long, conflicts_with = "vm")]
        keep: bool,
        /// Inside QEMU, with one of Debian's kernels (6.1 if none is named): where this one cannot be used.
        #[arg(long, value_name = "KERNEL", num_args = 0..=1, default_missing_value = "6.1")]
        vm: Option<Kernel>,
    },
    /// Run all tests.
    Test {
        /// Inside QEMU, with one of Debian's kernels (6.1 if none is named). Only the tests that need a kernel.
        #[arg(long, value_name = "KERNEL", num_args = 0..=1, default_missing_value = "6.1")]
        vm: Option<Kernel>,
        /// For `cargo test`, e.g. a part of the tests' names.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Measure what a packet, a session and the daemon cost, beside peers and floors.
    Bench {
        /// Suites, --quick, --json; see `cargo xtask bench -- --help`. Or `host`: what runs in
        /// user space, timed by criterion, with what criterion is to be told.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Kill the daemon again and again under traffic, at random moments: nobody may notice.
    Chaos {
        /// --kills, --sessions, --rate, --json; see `cargo xtask chaos -- --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Fuzz everything that reads what comes from outside, and the pipeline with its tables.
    Fuzz(fuzz::Options),
    /// Lay out the demo's lab, look at it, take it down.
    Lab {
        /// up, down, shell, status; see `cargo xtask lab --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Check format, lints of all crates (the kernel program's too), licences.
    Check,
    /// Look at the kernel program.
    #[command(subcommand)]
    Bpf(Bpf),
}

#[derive(Debug, Subcommand)]
enum Bpf {
    /// Print what the verifier and the kernel say about it.
    Info {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("xtask: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Setup => setup::setup(Need::USUAL),
        Command::Build => {
            setup::setup(Need::BUILD)?;
            process::cargo(&["build", "--locked", "--release", "--bin", "fernpass"])
        }
        Command::Deb { test, vm } => {
            if test && vm.is_none() && !suitable::is_root() {
                anyhow::bail!("it takes root to install a package in a root of its own");
            }
            setup::setup(match (test, vm) {
                (false, _) => Need::PACKAGE,
                (true, None) => Need::PACKAGE_TEST,
                (true, Some(_)) => Need::SERVICE_TEST,
            })?;
            let package = deb::build()?;
            match vm {
                Some(kernel) => deb::test_service(&package, kernel)?,
                None if test => deb::test(&package)?,
                None => {}
            }
            println!("{}", package.display());
            Ok(())
        }
        Command::Demo { profile, json, keep, vm } => {
            let mut arguments = vec!["demo"];
            arguments.extend(json.then_some("--json"));
            if let Some(kernel) = vm {
                return vm::demo(kernel, json);
            }
            if keep {
                arguments.push("--keep");
            } else {
                arguments.extend(["--profile", &profile]);
            }
            suitable::check("demo")?;
            setup::setup(Need::LAB)?;
            process::lab(&arguments)
        }
        Command::Test { vm: Some(kernel), rest } => vm::test(kernel, &rest),
        Command::Test { vm: None, rest } => {
            suitable::check("test")?;
            setup::setup(Need::LAB)?;
            if rest.is_empty() {
                return test::all();
            }
            let rest = rest.iter().map(String::as_str);
            process::cargo(&["test", "--locked"].into_iter().chain(rest).collect::<Vec<_>>())
        }
        Command::Bench { rest } if rest.first().is_some_and(|first| first == "host") => {
            setup::setup(Need::BUILD)?;
            process::host_benches(&rest[1..])
        }
        Command::Bench { rest } => {
            suitable::check("test")?;
            setup::setup(Need::BENCH)?;
            process::bench(&rest)
        }
        Command::Chaos { rest } => {
            suitable::check("test")?;
            setup::setup(Need::LAB)?;
            let rest = rest.iter().map(String::as_str);
            process::lab(&std::iter::once("chaos").chain(rest).collect::<Vec<_>>())
        }
        Command::Fuzz(options) => fuzz::fuzz(&options),
        Command::Lab { rest } => {
            suitable::check("demo")?;
            setup::setup(Need::LAB)?;
            let mut arguments = vec!["lab"];
            arguments.extend(rest.iter().map(String::as_str));
            process::lab(&arguments)
        }
        Command::Check => {
            setup::setup(Need::USUAL)?;
            check::check()
        }
        Command::Bpf(Bpf::Info { json }) => {
            suitable::check("test")?;
            setup::setup(Need::BUILD)?;
            let mut arguments =
                vec!["run", "--quiet", "--locked", "--bin", "fernpass", "--", "bpf-info"];
            arguments.extend(json.then_some("--json"));
            process::cargo(&arguments)
        }
    }
}
