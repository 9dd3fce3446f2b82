//! Free ports, which no other process takes while the server is down.

use std::{fs, io, net::TcpListener, ops::Range};

use crate::{Error, random::random_bytes};

const TRIES: usize = 200;

/// A port on 127.0.0.1 on which no process listens.
///
/// It is outside of the ephemeral range, from which binding to port 0 would take it. The kernel gives ephemeral ports to outgoing
/// connections, so another process could get the port while its server restarts, and a client that reconnects in a loop could
/// even connect to itself. Another process may still take the port before the server does, so a failed start must be repeated.
///
/// # Errors
/// No free port was found, or the operating system gave no random number.
pub fn free_port() -> Result<u16, Error> {
    let candidates = below_ephemeral_range();
    let mut refusal = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..TRIES {
        let offset = u16::from_ne_bytes(random_bytes()?) % (candidates.end - candidates.start);
        let port = candidates.start + offset;
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(port),
            Err(error) => refusal = error,
        }
    }
    Err(Error::io("find a free port on 127.0.0.1")(refusal))
}

/// `preferred` where it is free, else any free port.
pub(crate) fn free_port_preferring(preferred: Option<u16>) -> Result<u16, Error> {
    match preferred {
        Some(port) if TcpListener::bind(("127.0.0.1", port)).is_ok() => Ok(port),
        _ => free_port(),
    }
}

/// Ports above those of well-known services and below those that the kernel gives to outgoing connections.
fn below_ephemeral_range() -> Range<u16> {
    let first_ephemeral = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(32_768);
    if first_ephemeral > 20_000 {
        16_000..first_ephemeral
    } else {
        20_000..u16::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_preference_gives_another_port() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let taken_port = taken.local_addr().unwrap().port();
        assert_ne!(free_port_preferring(Some(taken_port)).unwrap(), taken_port);
    }

    #[test]
    fn a_free_preference_is_kept() {
        let port = free_port().unwrap();
        assert_eq!(free_port_preferring(Some(port)).unwrap(), port);
    }

    #[test]
    fn ports_keep_out_of_the_ephemeral_range() {
        let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let first_ephemeral: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
        if first_ephemeral > 20_000 {
            assert!((0..50).all(|_| free_port().unwrap() < first_ephemeral));
        }
    }
}
