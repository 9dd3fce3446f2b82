//! When bytes were received: the kernel's own timestamp of the segment that brought them, where it has one.
//!
//! A thread reads a socket that is ready after it has handled everything that was ready before. The bytes have waited meanwhile, and a
//! timestamp taken after the read counts that time against the server: some ten milliseconds at 95 % of a core. The kernel
//! timestamps a segment when the network delivers it, however busy the thread is, and Linux returns the timestamp with the read
//! (`SO_TIMESTAMPNS`; for several segments that of the last). So a timestamp depends on this process only where
//!
//! - several events were received before the read: all of them have the last one's timestamp. Therefore sockets that wait for a first
//!   content are read early ([`FirstContentPoller`](super::first_content_poller::FirstContentPoller)), and
//!   [`ReceiveTimestamp::earliest`] bounds the error;
//! - segments were received out of order. The last one's timestamp may then be older than the one that made it readable. The kernel counts
//!   such segments; when the count has changed, a timestamp that is old enough to matter is not used;
//! - the wall clock was set between timestamp and read ([`RealtimeConverter`]), or the kernel has no timestamp, as in the first moment
//!   after the first socket of the machine has asked for them. Then the time of the read is used, as on other systems.

use std::{io, time::Duration};

use precise_time::{MonotonicTime, RealtimeConverter};
use tokio::{io::ReadBuf, net::TcpStream};

/// When the last byte of a read was received.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReceiveTimestamp {
    /// The kernel's timestamp, or else when the read returned.
    pub(crate) at: MonotonicTime,
    /// Whether [`Self::at`] is the kernel's timestamp.
    pub(crate) is_from_kernel: bool,
    /// None of the bytes was received before this moment.
    pub(crate) earliest: MonotonicTime,
    /// When the read returned.
    pub(crate) read_at: MonotonicTime,
}

impl ReceiveTimestamp {
    /// The timestamp of a read that returned just now, without one of the kernel.
    pub(crate) fn read_now() -> Self {
        let now = MonotonicTime::now();
        Self {
            at: now,
            is_from_kernel: false,
            earliest: now,
            read_at: now,
        }
    }

    /// The same timestamp for a socket that was known to be empty at `moment`.
    pub(crate) fn with_empty_at(self, moment: MonotonicTime) -> Self {
        let earliest = self.earliest.max(moment).min(self.at);
        Self { earliest, ..self }
    }

    /// By how much [`Self::at`] may be too late for a byte other than the last.
    pub(crate) fn uncertainty(&self) -> Duration {
        self.at.saturating_since(self.earliest)
    }
}

/// Reads one socket together with the kernel's timestamps.
#[derive(Debug)]
pub(crate) struct TimestampedReader(Option<imp::SegmentOrder>);

impl TimestampedReader {
    /// Asks the kernel for the timestamps of `socket`.
    pub(crate) fn new(socket: &TcpStream) -> Self {
        Self(imp::enable_timestamps(socket))
    }

    /// Reads once. The bytes must have been received after `earliest`; a timestamp before it is not used. When the bytes have waited for
    /// longer than `trusted_age`, their timestamp is used only if no segment was received out of order, which takes a system call.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when the socket is empty.
    pub(crate) fn read(
        &mut self,
        socket: &TcpStream,
        buffer: &mut ReadBuf<'_>,
        clock: &RealtimeConverter,
        earliest: MonotonicTime,
        trusted_age: Duration,
    ) -> io::Result<ReceiveTimestamp> {
        let timestamp = imp::receive(socket, buffer)?;
        let now = MonotonicTime::now();
        let timestamp = timestamp.zip(self.0.as_mut());
        let from_kernel = timestamp.and_then(|(timestamp, order)| {
            let received = clock.monotonic(timestamp, earliest, now)?;
            let is_old = now.saturating_since(received) > trusted_age;
            (!is_old || order.is_kept(socket)).then_some(received)
        });
        Ok(ReceiveTimestamp {
            at: from_kernel.unwrap_or(now),
            is_from_kernel: from_kernel.is_some(),
            earliest,
            read_at: now,
        })
    }
}

/// All 64-bit Linux systems have the same layout of the control message.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod imp {
    use std::{io, mem::MaybeUninit, os::fd::AsRawFd};

    use nix::{
        libc,
        sys::socket::{setsockopt, sockopt::ReceiveTimestampns},
    };
    use socket2::{MaybeUninitSlice, MsgHdrMut, SockRef};
    use tokio::{io::ReadBuf, net::TcpStream};

    /// The size of a `cmsghdr` (`size_t` length, `int` level, `int` type) with a `timespec`.
    const CONTROL_BYTES: usize = 32;

    /// Notices segments that were received out of order.
    #[derive(Debug)]
    pub(super) struct SegmentOrder {
        /// The kernel's count at the last call.
        out_of_order: u32,
    }

    pub(super) fn enable_timestamps(socket: &TcpStream) -> Option<SegmentOrder> {
        setsockopt(socket, ReceiveTimestampns, &true).ok()?;
        Some(SegmentOrder { out_of_order: 0 })
    }

    impl SegmentOrder {
        /// Whether no segment was received out of order since the last call.
        pub(super) fn is_kept(&mut self, socket: &TcpStream) -> bool {
            let before = self.out_of_order;
            match out_of_order(socket) {
                Some(now) => {
                    self.out_of_order = now;
                    now == before
                }
                // Kernels before 5.4 do not count.
                None => false,
            }
        }
    }

    /// Reads once, and returns the kernel's timestamp in ns since 1970.
    pub(super) fn receive(socket: &TcpStream, buffer: &mut ReadBuf<'_>) -> io::Result<Option<i64>> {
        let mut control = [MaybeUninit::new(0); CONTROL_BYTES];
        #[expect(
            unsafe_code,
            reason = "the buffer need not be initialised before the kernel writes into it"
        )]
        // SAFETY: the kernel only writes into the buffer.
        let mut parts = [MaybeUninitSlice::new(unsafe { buffer.unfilled_mut() })];
        let mut message = MsgHdrMut::new()
            .with_buffers(&mut parts)
            .with_control(&mut control);
        let bytes = SockRef::from(socket).recvmsg(&mut message, 0)?;
        let control_bytes = message.control_len();
        #[expect(unsafe_code, reason = "`recvmsg` has initialised the bytes that it reports")]
        // SAFETY: the kernel has written that many bytes to the buffer.
        unsafe {
            buffer.assume_init(bytes);
        }
        buffer.advance(bytes);
        #[expect(unsafe_code, reason = "`recvmsg` takes the array as uninitialised")]
        // SAFETY: the array was initialised with zeros, and the kernel only writes into it.
        let control = control.map(|byte| unsafe { byte.assume_init() });
        Ok(timestamp_of(&control[..control_bytes.min(CONTROL_BYTES)]))
    }

    fn timestamp_of(control: &[u8]) -> Option<i64> {
        let int = |at| Some(i32::from_ne_bytes(*control.get(at..)?.first_chunk()?));
        let long = |at| Some(i64::from_ne_bytes(*control.get(at..)?.first_chunk()?));
        let is_timestamp = int(8)? == libc::SOL_SOCKET && int(12)? == libc::SCM_TIMESTAMPNS;
        let (seconds, nanos): (i64, i64) = (long(16)?, long(24)?);
        is_timestamp.then(|| seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
    }

    fn out_of_order(socket: &TcpStream) -> Option<u32> {
        let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
        let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).ok()?;
        #[expect(unsafe_code, reason = "nix and socket2 do not have this option")]
        // SAFETY: the kernel writes `length` bytes at most, and every pattern of bits is a `tcp_info`.
        let info = unsafe {
            let failed = libc::getsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                info.as_mut_ptr().cast(),
                &raw mut length,
            );
            (failed == 0).then(|| info.assume_init())?
        };
        let known = std::mem::offset_of!(libc::tcp_info, tcpi_rcv_ooopack) + size_of::<u32>();
        (length as usize >= known).then_some(info.tcpi_rcv_ooopack)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn other_control_messages_are_no_timestamps() {
            let mut control = [0; CONTROL_BYTES];
            assert_eq!(timestamp_of(&[]), None);
            assert_eq!(timestamp_of(&control), None);
            control[8..12].copy_from_slice(&libc::SOL_SOCKET.to_ne_bytes());
            control[12..16].copy_from_slice(&libc::SCM_TIMESTAMPNS.to_ne_bytes());
            control[16..24].copy_from_slice(&7_i64.to_ne_bytes());
            control[24..].copy_from_slice(&5_i64.to_ne_bytes());
            assert_eq!(timestamp_of(&control), Some(7_000_000_005));
            assert_eq!(timestamp_of(&control[..31]), None);
        }
    }
}

/// Other systems have no timestamps of the kernel.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
mod imp {
    use std::{convert::Infallible, io};

    use tokio::{io::ReadBuf, net::TcpStream};

    #[derive(Debug)]
    pub(super) struct SegmentOrder(Infallible);

    pub(super) fn enable_timestamps(_socket: &TcpStream) -> Option<SegmentOrder> {
        None
    }

    impl SegmentOrder {
        pub(super) fn is_kept(&mut self, _socket: &TcpStream) -> bool {
            match self.0 {}
        }
    }

    pub(super) fn receive(socket: &TcpStream, buffer: &mut ReadBuf<'_>) -> io::Result<Option<i64>> {
        use std::io::Read;
        let bytes = (&*socket2::SockRef::from(socket)).read(buffer.initialize_unfilled())?;
        buffer.advance(bytes);
        Ok(None)
    }
}
