//! Programs of others: whether this system has them, and what installs them.
//!
//! A task asks before it builds anything.

use std::env;
use std::path::PathBuf;

use anyhow::{Result, bail};

/// Debian's packages that are not called as the program that is wanted of them.
const PACKAGES: [(&str, &str); 12] = [
    ("bash_completion", "bash-completion"),
    ("cc", "gcc"),
    ("ip", "iproute2"),
    ("ldd", "libc-bin"),
    ("man", "man-db"),
    ("pee", "moreutils"),
    ("chroot", "coreutils"),
    ("script", "bsdutils"),
    ("setsid", "util-linux"),
    ("stty", "coreutils"),
    ("udp-receiver", "udpcast"),
    ("udp-sender", "udpcast"),
];

/// Whether a shell, or cargo, would find it.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut directories = env::split_paths(&path).chain(cargos_own());
    directories.any(|directory| directory.join(program).is_file())
}

/// Where cargo looks for its subcommands before it looks where shells do.
fn cargos_own() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(env::home_dir()?.join(".cargo")));
    home.map(|home| home.join("bin"))
}

/// Fails if one of these is not there, and says what installs it.
pub(crate) fn require(programs: &[&str]) -> Result<()> {
    missing(programs).map_or(Ok(()), |text| bail!(text))
}

/// Which of these are not there, and what installs them; `None` if all are.
pub(crate) fn missing(programs: &[&str]) -> Option<String> {
    let programs = programs.iter().copied().filter(|program| !is_installed(program));
    let programs: Vec<_> = programs.collect();
    (!programs.is_empty())
        .then(|| format!("there is no {}: {}", programs.join(", "), installing(&programs)))
}

/// The commands that install these programs.
pub(crate) fn installing(programs: &[&str]) -> String {
    let (ours, debians): (Vec<&str>, Vec<&str>) =
        programs.iter().partition(|program| program.starts_with("cargo-"));
    let mut packages: Vec<_> = debians.into_iter().map(package).collect();
    packages.sort_unstable();
    packages.dedup();
    let ours = ours.into_iter().map(|program| format!("cargo install --locked {program}"));
    let debians = (!packages.is_empty()).then(|| format!("apt-get install {}", packages.join(" ")));
    ours.chain(debians).collect::<Vec<_>>().join("; ")
}

fn package(program: &str) -> &str {
    PACKAGES.iter().find(|(known, _)| *known == program).map_or(program, |(_, package)| package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_with_what_installs_it() {
        assert_eq!(missing(&["sh", "ls"]), None);
        assert_eq!(
            missing(&["sh", "no-such-tool"]).unwrap(),
            "there is no no-such-tool: apt-get install no-such-tool"
        );
        assert_eq!(
            installing(&["cargo-deb", "udp-sender", "strace", "udp-receiver", "cargo-fuzz", "cc"]),
            "cargo install --locked cargo-deb; cargo install --locked cargo-fuzz; \
             apt-get install gcc strace udpcast"
        );
    }
}
