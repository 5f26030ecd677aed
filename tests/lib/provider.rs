//! A provider's port that can be down, up, or hang.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};

/// A port of its own on loopback: no other process gets it while it is down.
#[derive(Debug)]
pub struct Provider {
    socket: OwnedFd,
    address: SocketAddr,
    waiting: Vec<TcpStream>,
}

impl Provider {
    /// A port on which nobody listens: connects are refused.
    pub fn down() -> Self {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap();
        Self { socket, address, waiting: Vec::new() }
    }

    /// One that listens.
    pub fn up() -> Self {
        let mut provider = Self::down();
        provider.rise();
        provider
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// It listens from here on.
    pub fn rise(&mut self) {
        listen(&self.socket, 64).unwrap();
    }

    /// It listens and answers nobody: Linux drops connects while a listener's queue is full (listen(2)).
    pub fn hang(&mut self) {
        listen(&self.socket, 0).unwrap();
        self.waiting.push(TcpStream::connect(self.address).unwrap());
    }

    /// How many connects have come since the last time that it was asked.
    pub fn accepted(&self) -> usize {
        let listener = TcpListener::from(self.socket.try_clone().unwrap());
        listener.set_nonblocking(true).unwrap();
        std::iter::from_fn(|| listener.accept().ok()).count()
    }
}
