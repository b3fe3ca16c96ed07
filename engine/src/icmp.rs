//! Errors that come back for what a UDP socket has sent: nobody listens there. Linux hands them out on a queue of their own
//! (`IP_RECVERR`, `MSG_ERRQUEUE`), which must be emptied: what lies in it uses up the socket's receive buffer.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

/// Errors taken at once; what is left is there at the next tick.
const MOST: usize = 16;
/// Room for the error with its header and the offender's address, in words, so that it is aligned.
const CONTROL_WORDS: usize = 16;

/// The option that asks for such errors, with its level.
pub(crate) const fn option(address: &SocketAddr) -> (libc::c_int, libc::c_int) {
    match address {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_RECVERR),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
    }
}

/// Empties the queue; whether the far end's port, host or network was said to be unreachable. Does not wait or allocate.
pub(crate) fn take_unreachable(socket: &UdpSocket) -> bool {
    let mut unreachable = false;
    for _ in 0..MOST {
        let mut control = [0_u64; CONTROL_WORDS];
        // SAFETY: an all-zero msghdr is a valid value: null pointers with lengths of zero.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&control);
        // SAFETY: the descriptor is open; the header points to a control buffer of the length that it states, which outlives
        // the call, and to nothing else.
        let taken =
            unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) };
        if taken < 0 {
            break;
        }
        // SAFETY: the kernel has filled in this header, and its control buffer lives.
        let error = unsafe { error_number(&header) };
        unreachable |= matches!(error, Some(libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH));
    }
    unreachable
}

/// The error number that the network sent, if it is the network's.
///
/// # Safety
/// `header` was filled in by recvmsg, and its control buffer still exists.
unsafe fn error_number(header: &libc::msghdr) -> Option<libc::c_int> {
    // SAFETY: the header describes a control buffer that the kernel has filled.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return only headers within the control buffer, which is aligned for them.
        let (level, kind, length) = unsafe { ((*message).cmsg_level, (*message).cmsg_type, (*message).cmsg_len) };
        // SAFETY: CMSG_LEN only computes.
        let enough = length >= unsafe { libc::CMSG_LEN(size_of::<libc::sock_extended_err>() as libc::c_uint) } as usize;
        let ours = [(libc::IPPROTO_IP, libc::IP_RECVERR), (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)];
        if ours.contains(&(level, kind)) && enough {
            // SAFETY: this message carries a sock_extended_err, and its length says that it is whole.
            let error = unsafe { std::ptr::read_unaligned(libc::CMSG_DATA(message).cast::<libc::sock_extended_err>()) };
            let network = [libc::SO_EE_ORIGIN_ICMP, libc::SO_EE_ORIGIN_ICMP6].contains(&error.ee_origin);
            return network.then(|| libc::c_int::try_from(error.ee_errno).unwrap_or(0));
        }
        // SAFETY: as above.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    None
}
