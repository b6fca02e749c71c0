//! The process that holds a lease, and the proof that it is dead.
//!
//! A holder is provably dead only to a process of the same boot of the same machine and of the same process
//! namespace, by the kernel's word. Everything else waits for the lease to stand still.

use serde::{Deserialize, Serialize};

/// A process, identified so that it cannot be taken for a later one with its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The host's name, for messages.
    pub host: String,
    /// The boot of the machine, random with each one.
    pub boot_id: Option<String>,
    /// The process namespace in which `pid` counts.
    pub pid_namespace: Option<String>,
    /// The process number.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    pub started: Option<u64>,
}

impl Holder {
    /// This process.
    pub fn current() -> Self {
        let pid = std::process::id();
        let mut holder = Self { host: String::new(), boot_id: None, pid_namespace: None, pid, started: None };
        let nodename = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        let named = read("/proc/sys/kernel/hostname").or_else(|| std::env::var("HOSTNAME").ok());
        holder.host = named.unwrap_or_else(nodename);
        holder.boot_id = read("/proc/sys/kernel/random/boot_id");
        let namespace = std::fs::read_link("/proc/self/ns/pid").ok();
        holder.pid_namespace = namespace.map(|n| n.to_string_lossy().into_owned());
        holder.started = start_time("self");
        holder
    }

    /// Whether the kernel says that this process is over; `false` whenever that cannot be known.
    pub fn is_provably_dead(&self) -> bool {
        let here = Self::current();
        let same_world = self.host == here.host
            && self.boot_id.is_some()
            && self.boot_id == here.boot_id
            && self.pid_namespace.is_some()
            && self.pid_namespace == here.pid_namespace;
        let Some(started) = self.started.filter(|_| same_world) else { return false };
        let Some(pid) = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw) else { return false };
        // Not from /proc alone: with `hidepid` other users' processes are not visible there.
        match rustix::process::test_kill_process(pid) {
            Err(rustix::io::Errno::SRCH) => true,
            _ => start_time(&self.pid.to_string()).is_some_and(|now| now != started),
        }
    }
}

fn read(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|t| !t.is_empty())
}

/// Field 22 of `/proc/<pid>/stat` (proc_pid_stat(5)), counted from the end of the name, which may contain anything.
fn start_time(pid: &str) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives() {
        let me = Holder::current();
        assert!(me.boot_id.is_some() && me.pid_namespace.is_some() && me.started.is_some(), "{me:?}");
        assert!(!me.is_provably_dead());
    }

    #[test]
    fn a_process_that_ended_is_dead_and_one_elsewhere_is_not_known() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let started = start_time(&child.id().to_string());
        let holder = Holder { pid: child.id(), started, ..Holder::current() };
        assert!(!holder.is_provably_dead());
        let later = Holder { started: started.map(|s| s - 1), ..holder.clone() };
        assert!(later.is_provably_dead(), "the number belongs to another process now");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(holder.is_provably_dead());
        for elsewhere in [
            Holder { host: "other".into(), ..holder.clone() },
            Holder { boot_id: Some("other".into()), ..holder.clone() },
            Holder { boot_id: None, ..holder.clone() },
            Holder { pid_namespace: Some("pid:[1]".into()), ..holder.clone() },
            Holder { started: None, ..holder.clone() },
        ] {
            assert!(!elsewhere.is_provably_dead(), "{elsewhere:?}");
        }
    }
}
