//! Hosts on one switch: every host is a network with one interface, the switch is one with a bridge.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::network::Network;

/// Some hosts, which reach each other and nobody else.
#[derive(Debug)]
pub(crate) struct Lan {
    pub(crate) hosts: Vec<Network>,
    /// Without it the hosts are cut off.
    _switch: Network,
}

impl Lan {
    /// At most 254 hosts, each of which calls its interface eth0.
    pub(crate) fn new(hosts: usize) -> Result<Self> {
        let switch = Network::new()?;
        ip(&switch, "link add switch type bridge")?;
        ip(&switch, "link set switch up")?;
        let hosts: Result<Vec<_>> = (1..=hosts).map(|number| join(&switch, number)).collect();
        let lan = Self { hosts: hosts?, _switch: switch };
        lan.hosts.iter().try_for_each(await_link)?;
        Ok(lan)
    }
}

/// How many bytes a host has sent.
pub(crate) fn sent_bytes(host: &Network) -> Result<u64> {
    let table = host.call(|| {
        fs::read_to_string("/proc/thread-self/net/dev").context("cannot read the host's counters")
    })?;
    // The words are the interface, eight numbers of what it received, then what it sent.
    let mut lines = table.lines().map(str::split_whitespace);
    let mut line = lines.find_map(|mut words| (words.next() == Some("eth0:")).then_some(words));
    let bytes = line.as_mut().and_then(|words| words.nth(8)).context("there is no eth0")?;
    bytes.parse().context("cannot understand the host's counters")
}

/// A new host at a port of the switch.
fn join(switch: &Network, number: usize) -> Result<Network> {
    let host = Network::new()?;
    let port = format!("port{number}");
    ip(switch, &format!("link add {port} type veth peer name eth0 netns {}", host.path()))?;
    ip(switch, &format!("link set {port} master switch up"))?;
    // Without a broadcast address, sender and receivers look for each other in different ways.
    ip(&host, &format!("address add 10.0.0.{number}/24 broadcast + dev eth0"))?;
    ip(&host, "link set eth0 up")?;
    Ok(host)
}

/// Waits until the kernel has made a host's interface ready to send, which it does in its own time.
fn await_link(host: &Network) -> Result<()> {
    while !ip(host, "-oneline link show eth0")?.contains(" state UP ") {
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Runs `ip` with these words in a network; what it prints.
fn ip(network: &Network, words: &str) -> Result<String> {
    let run = || Command::new("ip").args(words.split(' ')).output().context("cannot run ip");
    let output = network.call(run)?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {words}: {}", error.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
