//! The command people type.

use std::process::ExitCode;

fn main() -> ExitCode {
    ecq::main()
}
