//! When bytes came: by the kernel's own stamp of the segment that brought them, where it gives one.
//!
//! A thread comes to a socket that is ready when it has done what was ready before. By then the bytes have waited, and a stamp
//! taken after the read counts that against the server: at 95 % of a core some ten milliseconds. The kernel stamps a
//! segment when the network hands it over, however busy the thread is, and Linux tells the stamp with the read (`SO_TIMESTAMPNS`; of
//! several segments that of the last). So a stamp depends on this process only where
//!
//! - several events came before the read: all of them have the last one's stamp. So sockets that wait for a first content are read
//!   early ([`Lookout`](crate::lookout::Lookout)), and [`Arrival::earliest`] says how far off the others may be;
//! - segments came out of order. The last one's stamp may then be older than the one that made it readable. The kernel counts
//!   such segments; a stamp that is old enough to matter is not believed where the count has changed;
//! - the wall clock was set between stamp and read ([`RealtimeStamps`]), or the kernel gives no stamps, as in the first moment after the
//!   first socket of the machine has asked for them: then it is the read's own time, as it is on other systems.

use std::{io, time::Duration};

use precise_time::{MonotonicTime, RealtimeStamps};
use tokio::{io::ReadBuf, net::TcpStream};

/// When the last byte of a read came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// By the kernel, or else when the read returned.
    pub(crate) at: MonotonicTime,
    /// By the kernel.
    pub(crate) is_stamped: bool,
    /// None of its bytes came before.
    pub(crate) earliest: MonotonicTime,
    /// When the read returned.
    pub(crate) read_at: MonotonicTime,
}

impl Arrival {
    pub(crate) fn read_now() -> Self {
        let now = MonotonicTime::now();
        Self {
            at: now,
            is_stamped: false,
            earliest: now,
            read_at: now,
        }
    }

    /// Of a socket that was found empty at `moment`.
    pub(crate) fn nothing_at(self, moment: MonotonicTime) -> Self {
        let earliest = self.earliest.max(moment).min(self.at);
        Self { earliest, ..self }
    }

    /// By how much [`Self::at`] may be too late for a byte that is not the last one.
    pub(crate) fn uncertainty(&self) -> Duration {
        self.at.saturating_since(self.earliest)
    }
}

/// Asks the kernel for the stamps of one socket.
#[derive(Debug)]
pub(crate) struct Stamps(Option<imp::Stamps>);

impl Stamps {
    pub(crate) fn of(socket: &TcpStream) -> Self {
        Self(imp::Stamps::ask_for(socket))
    }

    /// Reads once. What it reads came after `earliest`, as no stamp before it can be right. A stamp is doubted where the bytes have waited for
    /// longer than `patience`.
    ///
    /// # Errors
    ///
    /// `WouldBlock` where nothing is there.
    pub(crate) fn read(
        &mut self,
        socket: &TcpStream,
        buffer: &mut ReadBuf<'_>,
        clock: &RealtimeStamps,
        earliest: MonotonicTime,
        patience: Duration,
    ) -> io::Result<Arrival> {
        let stamp = imp::receive(socket, buffer)?;
        let now = MonotonicTime::now();
        let stamp = stamp.zip(self.0.as_mut());
        let stamped = stamp.and_then(|(stamp, stamps)| {
            let stamped = clock.monotonic(stamp, earliest, now)?;
            let has_waited = now.saturating_since(stamped) > patience;
            (!has_waited || stamps.is_in_order(socket)).then_some(stamped)
        });
        Ok(Arrival {
            at: stamped.unwrap_or(now),
            is_stamped: stamped.is_some(),
            earliest,
            read_at: now,
        })
    }
}

/// On 64-bit Linux the layout of the control message is one.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod imp {
    use std::{io, mem::MaybeUninit, os::fd::AsRawFd};

    use nix::{
        libc,
        sys::socket::{setsockopt, sockopt::ReceiveTimestampns},
    };
    use socket2::{MaybeUninitSlice, MsgHdrMut, SockRef};
    use tokio::{io::ReadBuf, net::TcpStream};

    /// A `cmsghdr` (`size_t` length, `int` level, `int` type) and a `timespec`.
    const CONTROL_BYTES: usize = 32;

    #[derive(Debug)]
    pub(super) struct Stamps {
        /// Segments that had come out of order when this was last looked at.
        out_of_order: u32,
    }

    impl Stamps {
        pub(super) fn ask_for(socket: &TcpStream) -> Option<Self> {
            setsockopt(socket, ReceiveTimestampns, &true).ok()?;
            Some(Self { out_of_order: 0 })
        }

        /// Whether no segment has come out of order since this was last asked.
        pub(super) fn is_in_order(&mut self, socket: &TcpStream) -> bool {
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

    /// Reads once; the kernel's stamp in ns since 1970.
    pub(super) fn receive(socket: &TcpStream, buffer: &mut ReadBuf<'_>) -> io::Result<Option<i64>> {
        let mut control = [MaybeUninit::new(0); CONTROL_BYTES];
        #[expect(
            unsafe_code,
            reason = "the buffers of ten thousand streams stay out of memory until something is in them"
        )]
        // SAFETY: the kernel only writes into it.
        let mut parts = [MaybeUninitSlice::new(unsafe { buffer.unfilled_mut() })];
        let mut message = MsgHdrMut::new()
            .with_buffers(&mut parts)
            .with_control(&mut control);
        let bytes = SockRef::from(socket).recvmsg(&mut message, 0)?;
        let control_bytes = message.control_len();
        #[expect(unsafe_code, reason = "the other half of the above")]
        // SAFETY: the kernel has written that many bytes.
        unsafe {
            buffer.assume_init(bytes);
        }
        buffer.advance(bytes);
        #[expect(unsafe_code, reason = "`recvmsg` takes it as uninitialised")]
        // SAFETY: it was initialised with zeros, and the kernel only writes into it.
        let control = control.map(|byte| unsafe { byte.assume_init() });
        Ok(stamp_of(&control[..control_bytes.min(CONTROL_BYTES)]))
    }

    fn stamp_of(control: &[u8]) -> Option<i64> {
        let int = |at| Some(i32::from_ne_bytes(*control.get(at..)?.first_chunk()?));
        let long = |at| Some(i64::from_ne_bytes(*control.get(at..)?.first_chunk()?));
        let is_stamp = int(8)? == libc::SOL_SOCKET && int(12)? == libc::SCM_TIMESTAMPNS;
        let (seconds, nanos): (i64, i64) = (long(16)?, long(24)?);
        is_stamp.then(|| seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
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
        fn a_control_message_that_is_no_stamp_is_none() {
            let mut control = [0; CONTROL_BYTES];
            assert_eq!(stamp_of(&[]), None);
            assert_eq!(stamp_of(&control), None);
            control[8..12].copy_from_slice(&libc::SOL_SOCKET.to_ne_bytes());
            control[12..16].copy_from_slice(&libc::SCM_TIMESTAMPNS.to_ne_bytes());
            control[16..24].copy_from_slice(&7_i64.to_ne_bytes());
            control[24..].copy_from_slice(&5_i64.to_ne_bytes());
            assert_eq!(stamp_of(&control), Some(7_000_000_005));
            assert_eq!(stamp_of(&control[..31]), None);
        }
    }
}

/// Other systems tell only when the read was made.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
mod imp {
    use std::{convert::Infallible, io};

    use tokio::{io::ReadBuf, net::TcpStream};

    #[derive(Debug)]
    pub(super) struct Stamps(Infallible);

    impl Stamps {
        pub(super) fn ask_for(_socket: &TcpStream) -> Option<Self> {
            None
        }

        pub(super) fn is_in_order(&mut self, _socket: &TcpStream) -> bool {
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
