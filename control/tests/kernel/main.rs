//! The kernel program, run in the kernel: against the host build of the same
//! pipeline, under two processors at once, and what the verifier said of it.
//!
//! Needs root. [`CASES`] generated packets are compared, or as many as one says:
//!
//! ```text
//! cargo test --locked -p fernpass --test kernel -- --cases 1000000
//! ```

mod equality;
mod gateway;
mod memory;
mod netns;
mod stack;
mod stress;
mod verifier;

use libtest_mimic::{Arguments, Failed, Trial};
use std::process::ExitCode;

/// Generated packets that are compared, if nothing else is said.
const CASES: u64 = 50_000;

fn main() -> ExitCode {
    let (cases, rest) = match cases(std::env::args()) {
        Ok(split) => split,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::from(2);
        }
    };
    let arguments = Arguments::from_iter(rest);
    let tests = vec![
        test("the_verifier_needs_half_of_its_million_steps_at_most", verifier::steps),
        test("nested_frames_fit_the_stack_of_linux_6_1", stack::depth),
        test("kernel_and_host_agree_on_every_packet", move || equality::compare(cases)),
        test("kernel_and_host_agree_on_packets_cut_and_changed", equality::mutations),
        test("two_processors_lose_double_and_cross_no_session", stress::two_processors),
    ];
    libtest_mimic::run(&arguments, tests).exit_code()
}

/// Takes `--cases N` out of the arguments, which are libtest's otherwise.
fn cases(mut all: impl Iterator<Item = String>) -> Result<(u64, Vec<String>), String> {
    let mut rest = Vec::new();
    let mut cases = CASES;
    while let Some(argument) = all.next() {
        if argument == "--cases" {
            let number = all.next().unwrap_or_default();
            cases = number.parse().map_err(|_| format!("--cases: {number:?} is not a number"))?;
        } else {
            rest.push(argument);
        }
    }
    Ok((cases, rest))
}

/// A test, in a thread and a network namespace of its own.
fn test(name: &str, body: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    let body = || {
        let thread = std::thread::spawn(|| {
            netns::enter()?;
            body()
        });
        thread.join().unwrap_or_else(|_| Err("panicked".into()))
    };
    Trial::test(name, body)
}
