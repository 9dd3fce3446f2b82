//! Out of descriptors. A process of its own: the limit is the process's.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use mock_llm::{MockLlm, Settings};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use precise_time::MonotonicTime;
use socket2::{Domain, Socket, Type};
use test_patience::{patience, until_blocking};

#[test]
fn a_server_without_descriptors_tries_again_in_peace() {
    let server = MockLlm::start(Settings::default()).unwrap();
    // A client that has its descriptor already; nobody gets one from here on.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 1, hard).unwrap();
    let began = MonotonicTime::now();
    socket.connect(&server.addr().into()).unwrap();
    until_blocking("four attempts", || server.stats().accept_errors >= 4);
    // Three pauses of 20 ms lie between four attempts; a server that spins makes them within microseconds.
    let lasted = MonotonicTime::now().saturating_since(began);
    assert!(lasted >= Duration::from_millis(60), "{lasted:?}");

    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    let mut client = TcpStream::from(socket);
    client.set_read_timeout(Some(patience())).unwrap();
    client.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = [0; 15];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}
