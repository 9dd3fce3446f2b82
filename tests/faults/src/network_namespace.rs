//! A network namespace for the services, in which packets can be lost without any error.

use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// An Ethernet address that no device has. Frames to it are dropped silently.
const UNUSED_ADDRESS: &str = "02:00:00:00:00:99";

/// The direction in which packets are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PartitionDirection {
    BothWays,
    ToServers,
    FromServers,
}

impl PartitionDirection {
    pub(crate) const ALL: [Self; 3] = [Self::BothWays, Self::ToServers, Self::FromServers];
}

/// One end of the virtual Ethernet cable between the machine and the namespace.
#[derive(Debug)]
struct VethEnd {
    device: String,
    address: Ipv4Addr,
    ethernet: &'static str,
}

/// A network namespace with a virtual Ethernet cable to the machine's own namespace. Dropping it removes both. After a `kill -9`
/// of this process they must be removed by hand (`ip netns`).
#[derive(Debug)]
pub(crate) struct NetworkNamespace {
    name: String,
    outside: VethEnd,
    inside: VethEnd,
}

impl NetworkNamespace {
    /// Creates the namespace. Fails without root or without the command `ip`.
    pub(crate) fn create() -> anyhow::Result<Self> {
        let id = std::process::id();
        // 198.18.0.0/15 is reserved for tests of networks (RFC 2544). Each process uses four addresses.
        let network = u32::from(Ipv4Addr::new(198, 18, 0, 0)) + id % (1 << 15) * 4;
        let namespace = Self {
            name: format!("faults-{id}"),
            outside: VethEnd {
                device: format!("fo{id}"),
                address: Ipv4Addr::from(network + 1),
                ethernet: "02:00:00:00:00:01",
            },
            inside: VethEnd {
                device: format!("fi{id}"),
                address: Ipv4Addr::from(network + 2),
                ethernet: "02:00:00:00:00:02",
            },
        };
        ip(&format!("netns add {}", namespace.name))?;
        let Self {
            name,
            outside,
            inside,
        } = &namespace;
        ip(&format!(
            "link add {} address {} type veth peer name {} address {} netns {name}",
            outside.device, outside.ethernet, inside.device, inside.ethernet
        ))?;
        ip(&format!("-n {name} link set lo up"))?;
        for (end, prefix) in [(outside, String::new()), (inside, format!("-n {name} "))] {
            ip(&format!("{prefix}addr add {}/30 dev {}", end.address, end.device))?;
            ip(&format!("{prefix}link set {} up", end.device))?;
        }
        namespace.heal()?;
        Ok(namespace)
    }

    /// The machine's address on the cable.
    pub(crate) fn outside(&self) -> IpAddr {
        self.outside.address.into()
    }

    /// The namespace's address on the cable.
    pub(crate) fn inside(&self) -> IpAddr {
        self.inside.address.into()
    }

    /// The command that runs another command in the namespace.
    pub(crate) fn wrapper(&self) -> Vec<OsString> {
        ["ip", "netns", "exec", &self.name].map(OsString::from).to_vec()
    }

    /// Drops all packets in this direction from now on, without any error. Taking a device down instead would tell the kernel,
    /// which would use another route.
    pub(crate) fn partition(&self, direction: PartitionDirection) -> anyhow::Result<()> {
        if direction != PartitionDirection::FromServers {
            self.neighbour_inside(UNUSED_ADDRESS)?;
        }
        if direction != PartitionDirection::ToServers {
            self.neighbour_outside(UNUSED_ADDRESS)?;
        }
        Ok(())
    }

    /// Ends the partition.
    pub(crate) fn heal(&self) -> anyhow::Result<()> {
        self.neighbour_inside(self.outside.ethernet)?;
        self.neighbour_outside(self.inside.ethernet)
    }

    fn neighbour_inside(&self, ethernet: &str) -> anyhow::Result<()> {
        ip(&format!(
            "-n {} neigh replace {} lladdr {ethernet} nud permanent dev {}",
            self.name, self.outside.address, self.inside.device
        ))
        .map(drop)
    }

    fn neighbour_outside(&self, ethernet: &str) -> anyhow::Result<()> {
        ip(&format!(
            "neigh replace {} lladdr {ethernet} nud permanent dev {}",
            self.inside.address, self.outside.device
        ))
        .map(drop)
    }

    /// The number of TCP segments that were retransmitted from within the namespace.
    pub(crate) fn retransmissions(&self) -> anyhow::Result<u64> {
        let counters = ip(&format!("netns exec {} cat /proc/net/snmp", self.name))?;
        let mut rows = counters.lines().filter_map(|line| line.strip_prefix("Tcp: "));
        let (names, values) = (rows.next(), rows.next());
        let mut columns = names
            .into_iter()
            .flat_map(str::split_whitespace)
            .zip(values.into_iter().flat_map(str::split_whitespace));
        let (_, retransmitted) = columns
            .find(|(name, _)| *name == "RetransSegs")
            .context("/proc/net/snmp without RetransSegs")?;
        Ok(retransmitted.parse()?)
    }

    /// Delays, loses and reorders packets, both ways. Fails where the kernel has no `netem`.
    pub(crate) fn impair(&self) -> anyhow::Result<()> {
        const NETEM: &str = "root netem delay 100ms 20ms loss 5% reorder 25%";
        run("tc", &format!("qdisc add dev {} {NETEM}", self.outside.device))?;
        run(
            "tc",
            &format!("-n {} qdisc add dev {} {NETEM}", self.name, self.inside.device),
        )?;
        Ok(())
    }

    /// Ends what [`Self::impair`] started.
    pub(crate) fn repair(&self) -> anyhow::Result<()> {
        run("tc", &format!("qdisc del dev {} root", self.outside.device))?;
        run(
            "tc",
            &format!("-n {} qdisc del dev {} root", self.name, self.inside.device),
        )?;
        Ok(())
    }

    /// The number of packets that `netem` has dropped.
    pub(crate) fn dropped_packets(&self) -> anyhow::Result<u64> {
        let shown = run("tc", &format!("-j -s qdisc show dev {}", self.outside.device))?;
        let disciplines: Value = serde_json::from_str(&shown)?;
        disciplines[0]["drops"]
            .as_u64()
            .context("a queueing discipline without drops")
    }
}

impl Drop for NetworkNamespace {
    fn drop(&mut self) {
        // The cable first, because the namespace exists as long as a process is in it. Fails for what was not created.
        let _ = ip(&format!("link del {}", self.outside.device));
        let _ = ip(&format!("netns del {}", self.name));
    }
}

fn ip(arguments: &str) -> anyhow::Result<String> {
    run("ip", arguments)
}

/// Runs a command whose arguments hold no spaces; gives what it printed.
fn run(program: &str, arguments: &str) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(arguments.split(' '))
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {program}"))?;
    ensure!(
        output.status.success(),
        "{program} {arguments}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8(output.stdout)?)
}
