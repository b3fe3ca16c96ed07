//! Who gets in: peers of our own user and root, as many as there is room for.

use std::io::ErrorKind;

use mio::net::UnixStream;
use mio::{Interest, Token};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use super::connection::Connection;
use super::{MAX_CONNECTIONS, Server};

impl Server {
    /// Takes everybody who waits.
    pub(super) fn accept(&mut self) {
        self.accept_again = false;
        loop {
            let stream = match self.socket.listener.accept() {
                Ok((stream, _)) => stream,
                Err(none) if none.kind() == ErrorKind::WouldBlock => return,
                Err(again) if matches!(again.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {
                    continue;
                }
                Err(error) => {
                    log::warn!("control socket: cannot accept: {error}");
                    self.accept_again = true;
                    return;
                }
            };
            let uid = match getsockopt(&stream, PeerCredentials) {
                Ok(peer) => peer.uid(),
                Err(error) => {
                    log::warn!("control socket: cannot tell who connects: {error}");
                    continue;
                }
            };
            if uid != 0 && uid != nix::unistd::geteuid().as_raw() {
                log::warn!("control socket: user {uid} refused");
                continue;
            }
            self.adopt(stream);
        }
    }

    fn adopt(&mut self, mut stream: UnixStream) {
        let slot = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        if slot >= MAX_CONNECTIONS {
            log::warn!("control socket: more than {MAX_CONNECTIONS} connections");
            return;
        }
        let token = Token(self.base.0 + 1 + slot);
        if let Err(error) = self.registry.register(&mut stream, token, Interest::READABLE) {
            log::warn!("control socket: cannot watch a connection: {error}");
            return;
        }
        self.serial += 1;
        let connection = Some(Connection::new(stream, self.registry.clone(), token, self.serial));
        if slot == self.slots.len() {
            self.slots.push(connection);
        } else {
            self.slots[slot] = connection;
        }
    }
}
