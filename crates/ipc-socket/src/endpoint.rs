//! Where peers and server meet: a listening socket under a name that the kernel chooses.
//!
//! The name is an abstract one, so there is no path that somebody could squat or that could be left
//! behind. Whoever finds it can connect; [`Endpoint::accept`] tells who it was.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use crate::Error;

/// The listening socket.
#[derive(Debug)]
pub(crate) struct Endpoint {
    listener: OwnedFd,
    address: SocketAddrUnix,
}

/// What there was to accept.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// A process of the server's own user.
    Process {
        /// The connection, non-blocking.
        socket: OwnedFd,
        /// Who connected.
        pid: u32,
    },
    /// Somebody else, already closed.
    Stranger,
    /// Nobody, for now.
    Nobody,
    /// Perhaps somebody, but there is no descriptor or memory for the connection.
    Shortage(Errno),
}

/// Connections that may wait to be accepted; the kernel cuts it to `net.core.somaxconn`. Peers
/// beyond wait in `connect`.
const BACKLOG: i32 = 4096;

impl Endpoint {
    /// Listens under a name of the kernel's choice.
    pub(crate) fn listen() -> Result<Self, Error> {
        let failed = || ipc_core::Error::system("create a listening socket");
        let listener = socket(SocketFlags::NONBLOCK)?;
        rustix::net::bind(&listener, &SocketAddrUnix::new_unnamed()).map_err(failed())?;
        rustix::net::listen(&listener, BACKLOG).map_err(failed())?;
        let address = rustix::net::getsockname(&listener)
            .and_then(SocketAddrUnix::try_from)
            .map_err(failed())?;
        Ok(Self { listener, address })
    }

    /// The abstract name, without the NUL before it.
    pub(crate) fn name(&self) -> &[u8] {
        self.address.abstract_name().expect("the kernel has chosen one")
    }

    /// Peer: connects, by the name alone.
    pub(crate) fn connect(&self) -> Result<OwnedFd, Error> {
        let socket = socket(SocketFlags::empty())?;
        // Interrupted while it waits for room in the backlog, it has not begun to connect.
        ipc_core::io::retry(&socket, PollFlags::empty(), || {
            rustix::net::connect(&socket, &self.address)
        })
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::ConnectionRefused => ipc_core::Error::ServerGone,
            _ => ipc_core::Error::system("connect to the server")(error),
        })?;
        Ok(socket)
    }

    /// Server: takes the next connection, without waiting for one.
    ///
    /// # Errors
    /// Only if no connection can ever be accepted.
    pub(crate) fn accept(&self) -> Result<Accepted, Error> {
        loop {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            return match rustix::net::accept_with(&self.listener, flags) {
                Ok(socket) => Ok(match own_process(&socket) {
                    Some(pid) => Accepted::Process { socket, pid },
                    None => Accepted::Stranger,
                }),
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(Errno::AGAIN) => Ok(Accepted::Nobody),
                Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                    Ok(Accepted::Shortage(errno))
                }
                Err(errno) => Err(ipc_core::Error::system("accept a peer")(errno).into()),
            };
        }
    }
}

impl AsFd for Endpoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

fn socket(flags: SocketFlags) -> Result<OwnedFd, Error> {
    let flags = flags | SocketFlags::CLOEXEC;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|errno| ipc_core::Error::system("create a socket")(errno).into())
}

/// The id of the process that connected, if it is one of this process's user.
///
/// The kernel noted both when it connected; nobody can forge them. For a process of a foreign PID
/// namespace it says 0, which is no id: whatever rustix makes of it, an error or a number that no
/// peer has, it is a stranger.
fn own_process(socket: &OwnedFd) -> Option<u32> {
    let credentials = sockopt::socket_peercred(socket).ok()?;
    let is_own = credentials.uid == rustix::process::geteuid();
    is_own.then(|| credentials.pid.as_raw_pid().cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_has_an_abstract_name_of_its_own() {
        let (one, other) = (Endpoint::listen().unwrap(), Endpoint::listen().unwrap());
        assert!(!one.name().is_empty());
        assert_ne!(one.name(), other.name());
    }

    #[test]
    fn a_connection_tells_who_connected() {
        let endpoint = Endpoint::listen().unwrap();
        assert!(matches!(endpoint.accept().unwrap(), Accepted::Nobody));
        let _connection = endpoint.connect().unwrap();
        let Accepted::Process { pid, .. } = endpoint.accept().unwrap() else { panic!() };
        assert_eq!(pid, std::process::id());
    }

    #[test]
    fn a_connection_of_another_user_is_a_stranger_s() {
        if !rustix::process::geteuid().is_root() {
            // Nobody else can be somebody else.
            return;
        }
        let endpoint = Endpoint::listen().unwrap();
        let connection = std::thread::scope(|scope| {
            let connect = || {
                // The kernel has users of threads: the process stays who it is.
                let user = rustix::process::Uid::from_raw(65534);
                rustix::thread::set_thread_res_uid(user, user, user).unwrap();
                endpoint.connect().unwrap()
            };
            scope.spawn(connect).join().unwrap()
        });
        assert!(matches!(endpoint.accept().unwrap(), Accepted::Stranger));
        drop(connection);
    }

    #[test]
    fn without_a_listener_the_server_is_gone() {
        let Endpoint { listener, address } = Endpoint::listen().unwrap();
        drop(listener);
        let (listener, _) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let error = Endpoint { listener, address }.connect().unwrap_err();
        assert!(matches!(error, Error::Core(ipc_core::Error::ServerGone)), "{error}");
    }
}
