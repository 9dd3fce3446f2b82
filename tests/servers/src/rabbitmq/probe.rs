//! Checks whether a RabbitMQ server accepts a login.
//!
//! Source: AMQP 0-9-1 specification, 4.2 (protocol header, frames) and 1.4 (Connection.Start, Start-Ok, Tune). A tenth
//! of the time of `rabbitmqctl await_startup`, which starts an Erlang machine for each call. A node starts its listeners last.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// The time limit of one probe. A broker that is not there refuses at once; on a busy machine it answers late.
const TIMEOUT: Duration = Duration::from_secs(20);
const PROTOCOL_HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";
const FRAME_HEADER_BYTES: usize = 7;
const FRAME_END: u8 = 0xCE;
/// Class and method numbers.
const START: [u8; 4] = [0, 10, 0, 10];
const START_OK: [u8; 4] = [0, 10, 0, 11];
const TUNE: [u8; 4] = [0, 10, 0, 30];
/// In bytes, more than any broker's Connection.Start has. A server of another protocol may send any number here.
const LONGEST_FRAME: u32 = 64 * 1024;

/// Whether the broker on `port` accepts the password. An answer alone does not suffice, because another broker may have taken the
/// port.
pub(super) async fn logs_in(port: u16, user: &str, password: &str) -> bool {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(PROTOCOL_HEADER).await?;
        if read_method(&mut stream).await? != START {
            return Ok(false);
        }
        stream.write_all(&start_ok(user, password)).await?;
        io::Result::Ok(read_method(&mut stream).await? == TUNE)
    };
    matches!(timeout(TIMEOUT, exchange).await, Ok(Ok(true)))
}

/// Reads a frame and returns its class and method, with which the payload begins.
async fn read_method(stream: &mut TcpStream) -> io::Result<[u8; 4]> {
    let mut header = [0; FRAME_HEADER_BYTES];
    stream.read_exact(&mut header).await?;
    let [_type, _, _channel, size @ ..] = header;
    let size = u32::from_be_bytes(size);
    let mut method = [0; 4];
    if !(4..LONGEST_FRAME).contains(&size) {
        return Ok(method);
    }
    stream.read_exact(&mut method).await?;
    let rest = u64::from(size) - 4 + 1; // the frame's end
    tokio::io::copy(&mut stream.take(rest), &mut tokio::io::sink()).await?;
    Ok(method)
}

/// Connection.Start-Ok: no client properties, mechanism PLAIN, its response, locale.
fn start_ok(user: &str, password: &str) -> Vec<u8> {
    let response = format!("\0{user}\0{password}");
    let mut payload = START_OK.to_vec();
    payload.extend(length(0));
    payload.extend(b"\x05PLAIN");
    payload.extend(length(response.len()));
    payload.extend(response.as_bytes());
    payload.extend(b"\x05en_US");

    let mut frame = vec![1, 0, 0];
    frame.extend(length(payload.len()));
    frame.extend(payload);
    frame.push(FRAME_END);
    frame
}

fn length(bytes: usize) -> [u8; 4] {
    // Unwrap safety: a user's name and password are some dozens of bytes long.
    u32::try_from(bytes).expect("a short field").to_be_bytes()
}
