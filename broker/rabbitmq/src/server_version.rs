use std::io;

use futures::io::{AsyncReadExt, AsyncWriteExt};
use lapin::{
    protocol::{AMQPClass, connection::AMQPMethod, parse_class},
    types::{AMQPValue, FieldTable},
    uri::AMQPUri,
};

use crate::transport;

const PROTOCOL_HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";
/// A frame's type (1 byte), channel (2) and size (4).
const FRAME_HEADER_BYTES: usize = 7;
/// Far above the size of any server's properties.
const MAX_FRAME_BYTES: usize = 128 * 1024;

/// Asks the server for its name and version, such as `RabbitMQ 3.10.8`.
///
/// The AMQP client does not expose the server's properties. Therefore this opens a connection of its own, reads the server's
/// first frame and closes it. Without a time limit; the caller sets one.
///
/// Source: AMQP 0-9-1 specification, 1.4.2.1 (`connection.start`) and 2.3.5 (frames).
pub(crate) async fn ask(uri: &AMQPUri) -> io::Result<String> {
    let properties = server_properties(uri).await?;
    let text = |key: &str| match properties.inner().get(key) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        _ => "?".to_owned(),
    };
    Ok(format!("{} {}", text("product"), text("version")))
}

async fn server_properties(uri: &AMQPUri) -> io::Result<FieldTable> {
    let mut stream = transport::secure(uri, transport::connect(uri).await?).await?;
    stream.write_all(PROTOCOL_HEADER).await?;
    stream.flush().await?;

    let mut header = [0; FRAME_HEADER_BYTES];
    stream.read_exact(&mut header).await?;
    let [_, _, _, size @ ..] = header;
    let size = usize::try_from(u32::from_be_bytes(size)).map_err(io::Error::other)?;
    if size > MAX_FRAME_BYTES {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let mut payload = vec![0; size];
    stream.read_exact(&mut payload).await?;
    match parse_class(payload.as_slice()) {
        Ok((_, AMQPClass::Connection(AMQPMethod::Start(start)))) => Ok(start.server_properties),
        _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
    }
}
