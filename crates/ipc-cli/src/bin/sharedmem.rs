//! The program `sharedmem`; everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ipc_cli::sharedmem()
}
