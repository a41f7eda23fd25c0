//! A `fernpass` of another version of the tables, which tests move sessions to and from.

use std::process::ExitCode;

fn main() -> ExitCode {
    control::cli::main()
}
