//! strace: how it is started, and what its log tells.

use std::collections::BTreeMap;
use std::path::Path;

/// strace as a process beside the one that it starts or is attached to, not as its parent: so statuses
/// and orphans are those of the program. It ends by itself when all that it traces have ended.
pub(crate) fn options(log: &Path, trace: Option<&str>, injections: &[&str]) -> Vec<String> {
    let mut options = vec!["-qq".to_owned(), "-o".to_owned(), log.display().to_string()];
    if let Some(call) = trace {
        options.push(format!("--trace={call}"));
    }
    options.extend(injections.iter().map(|injection| format!("--inject={injection}")));
    options
}

/// One line of a log that tells of a call's begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// The whole line, without the process id.
    pub(crate) line: String,
}

/// The calls of each process, the one that comes first in the log first; 0 stands for the only one
/// that was traced.
pub(crate) fn calls(log: &str) -> Vec<(u32, Vec<Call>)> {
    let mut order = Vec::new();
    let mut calls: BTreeMap<u32, Vec<Call>> = BTreeMap::new();
    for line in log.lines() {
        let (pid, line) = split_pid(line);
        let name = line.split_once('(').map(|(name, _)| name).unwrap_or_default();
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || !name.bytes().all(is_name) {
            continue;
        }
        if !order.contains(&pid) {
            order.push(pid);
        }
        let call = Call { name: name.to_owned(), line: line.to_owned() };
        calls.entry(pid).or_default().push(call);
    }
    order.into_iter().map(|pid| (pid, calls.remove(&pid).unwrap_or_default())).collect()
}

/// The processes that stopped, in the order in which they did.
pub(crate) fn stopped(log: &str) -> Vec<u32> {
    let lines = log.lines().map(split_pid);
    lines.filter(|(_, line)| *line == "--- stopped by SIGSTOP ---").map(|(pid, _)| pid).collect()
}

fn split_pid(line: &str) -> (u32, &str) {
    match line.split_once(' ').map(|(pid, rest)| (pid.parse(), rest.trim_start())) {
        Some((Ok(pid), rest)) => (pid, rest),
        _ => (0, line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_counts_once_however_it_is_printed() {
        let log = "7 read(3, \"a(b\", 1) = 1\n8 write(1, \"\", 0 <unfinished ...>\n\
                   7 --- SIGSTOP {si_signo=SIGSTOP} ---\n7 --- stopped by SIGSTOP ---\n\
                   8 <... write resumed>) = 0\n7 +++ exited with 0 +++\n";
        let calls = calls(log);
        let names: Vec<_> =
            calls.iter().map(|(pid, calls)| (*pid, calls.len(), calls[0].name.as_str())).collect();
        assert_eq!(names, [(7, 1, "read"), (8, 1, "write")]);
        assert_eq!(stopped(log), [7]);
    }

    #[test]
    fn a_log_of_one_process_has_no_ids() {
        let calls = calls("read(3, \"\", 1) = 0\nread(3, \"\", 1) = -1 EIO (INJECTED)\n");
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0].1.len(), 2);
    }
}
