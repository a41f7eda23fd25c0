//! The kernel program, run in the kernel: against the host build of the same
//! pipeline, under two processors at once, and what the verifier said of it.
//!
//! Needs root. `cargo test -p fernpass --test kernel` compares
//! [`CASES`] generated packets; `-- --cases N` another number.

use libtest_mimic::{Arguments, Failed, Trial};
use std::process::ExitCode;

mod verifier;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let tests =
        vec![test("the_verifier_is_content_with_a_quarter_of_a_million_steps", verifier::steps)];
    libtest_mimic::run(&arguments, tests).exit_code()
}

/// A test that is ignored where nobody may load a program.
fn test(name: &str, body: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    Trial::test(name, body).with_ignored_flag(!rustix::process::geteuid().is_root())
}
