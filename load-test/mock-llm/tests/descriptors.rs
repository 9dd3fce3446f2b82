//! A server without free file descriptors. The test has a process of its own, because the limit applies to the process.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use mock_llm::{MockLlm, Settings};
use precise_time::MonotonicTime;
use rlimit::Resource;
use socket2::{Domain, Socket, Type};
use test_patience::{patience, until_blocking};

#[test]
fn a_server_without_descriptors_pauses_between_attempts() {
    let server = MockLlm::start(Settings::default()).unwrap();
    // The client has its descriptor already; after the next lines no new one can be opened.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let (soft, hard) = Resource::NOFILE.get().unwrap();
    Resource::NOFILE.set(1, hard).unwrap();
    let began = MonotonicTime::now();
    socket.connect(&server.addr().into()).unwrap();
    until_blocking("four attempts", || server.stats().accept_errors >= 4);
    // Three pauses of 20 ms lie between four attempts; a server that spins makes them within microseconds.
    let lasted = MonotonicTime::now().saturating_since(began);
    assert!(lasted >= Duration::from_millis(60), "{lasted:?}");

    Resource::NOFILE.set(soft, hard).unwrap();
    let mut client = TcpStream::from(socket);
    client.set_read_timeout(Some(patience())).unwrap();
    client.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = [0; 15];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}
