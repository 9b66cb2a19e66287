//! The server's side: all connections at once, from one thread that sleeps in one place.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use ipc_core::io::{SLICE, now, timespec};
use ipc_core::{Digest, Failure, OnSlow, Patience, PeerId, Peers, Served, Source};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_send_buffer_size;

use crate::clients::{Clients, Stage};
use crate::endpoint::{Accepted, Endpoint};
use crate::feed::{Feed, SendError, Sent};
use crate::{Error, SocketTransport};

/// One run, from the first connection to the last byte.
#[derive(Debug)]
pub(crate) struct Server<'a, 's> {
    endpoint: &'a Endpoint,
    peers: &'a mut Peers<'s>,
    clients: Clients,
    feed: Feed<'a>,
    epoll: OwnedFd,
    /// Bytes that the kernel is asked to queue for each connection.
    send_buffer: usize,
    /// Connected peers whose turn was over before their buffers were full.
    unfinished: Vec<PeerId>,
    on_slow: OnSlow,
    patience: Patience,
    /// What there is to say of the source at the end of the run, if that came now.
    served: Served,
    /// When the last chores were done.
    last_chores: Instant,
    /// Since when connections cannot be accepted for want of a descriptor or memory.
    shortage: Option<Instant>,
}

/// What an event is about that has no peer's number.
const LISTENER: u64 = u64::MAX;
const PEERS: u64 = u64::MAX - 1;
const SOURCE: u64 = u64::MAX - 2;

/// Connections accepted before others get their turn again, so that no flood of strangers holds the
/// peers up.
const ACCEPTED_PER_TURN: usize = 64;

/// How long the run waits for descriptors or memory while a peer cannot be accepted.
const SHORTAGE_LIMIT: Duration = Duration::from_secs(10);

/// Bytes that the kernel is asked to queue for all connections together, however many they are.
const SEND_BUFFERS: usize = 64 * 1024 * 1024;

impl<'a, 's> Server<'a, 's> {
    pub(crate) fn new(
        transport: &'a SocketTransport,
        source: &'a Source,
        peers: &'a mut Peers<'s>,
    ) -> Result<Self, Error> {
        let SocketTransport { options, endpoint } = transport;
        let clients = Clients::new(peers);
        let share = SEND_BUFFERS / clients.len().max(1);
        let feed = Feed::new(source, *options, clients.len())?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(ipc_core::Error::system("create an epoll instance"))?;
        for (fd, token) in [(endpoint.as_fd(), LISTENER), (peers.as_fd(), PEERS)] {
            epoll::add(&epoll, fd, EventData::new_u64(token), EventFlags::IN)
                .map_err(ipc_core::Error::system("watch for peers"))?;
        }
        feed.watch(epoll.as_fd(), SOURCE)?;
        Ok(Self {
            endpoint,
            peers,
            clients,
            feed,
            epoll,
            send_buffer: options.send_buffer_bytes.min(share),
            unfinished: Vec::new(),
            on_slow: options.on_slow,
            patience: Patience::new(options.on_slow, now()),
            served: Served::NoReceivers,
            last_chores: Instant::now(),
            shortage: None,
        })
    }

    /// Serves until every peer has been sent everything or does not receive any more.
    ///
    /// The source is read a piece at a time, between looks at all connections; nothing in here
    /// waits for another process but the wait for events.
    pub(crate) fn run(mut self) -> Result<Served, Error> {
        if let Some(length) = self.feed.length() {
            self.end_source(length, None);
        }
        // None of them has joined.
        self.peers.ids().for_each(|id| self.peers.set_awaited(id, true));
        while self.clients.any_unserved() {
            let can_read = self.feed.can_read()?;
            let is_busy = can_read || !self.unfinished.is_empty();
            self.handle_events(if is_busy { Duration::ZERO } else { SLICE })?;
            let mut unfinished = std::mem::take(&mut self.unfinished);
            // An event may have given somebody a turn already.
            unfinished.sort_unstable();
            unfinished.dedup();
            unfinished.into_iter().try_for_each(|id| self.send(id))?;
            if self.last_chores.elapsed() >= SLICE {
                self.do_chores()?;
            }
            if can_read && self.clients.any_unserved() {
                self.read()?;
            }
        }
        self.await_last_words()?;
        Ok(self.served)
    }

    /// Waits for the peers that have closed their connections before the source has ended: each says why, or
    /// ends.
    fn await_last_words(&mut self) -> Result<(), Error> {
        self.peers.ids().for_each(|id| self.peers.set_awaited(id, true));
        while self.served == Served::NoReceivers && self.peers.any_receiving() {
            self.handle_events(SLICE)?;
            self.update();
        }
        Ok(())
    }

    /// Notes that the source has ended: the peers that have all of it may commit while others are sent the rest.
    fn end_source(&mut self, bytes: u64, digest: Option<Digest>) {
        self.served = Served::Everything { bytes, digest };
        self.peers.source_ended(bytes, digest);
    }

    fn handle_events(&mut self, timeout: Duration) -> Result<(), Error> {
        let nothing = epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) };
        let mut events = [nothing; 64];
        let ready = match epoll::wait(&self.epoll, &mut events, Some(&timespec(timeout))) {
            Ok(ready) => ready,
            Err(Errno::INTR) => 0,
            Err(errno) => return Err(ipc_core::Error::system("wait for peers")(errno).into()),
        };
        for epoll::Event { data, flags } in events.into_iter().take(ready) {
            match data.u64() {
                LISTENER => self.accept()?,
                PEERS => self.update(),
                // It only had to end the sleep.
                SOURCE => {}
                number => {
                    let number = u32::try_from(number).expect("all other tokens are numbers");
                    self.handle_connection(PeerId(number), flags)?;
                }
            }
        }
        Ok(())
    }

    /// What is done once in a slice, whatever the events are: so none can be missed for ever.
    fn do_chores(&mut self) -> Result<(), Error> {
        self.last_chores = Instant::now();
        if self.shortage.is_some() {
            self.watch_listener(EventFlags::IN)?;
        }
        self.update();
        self.judge();
        self.peers.ids().try_for_each(|id| self.handle_connection(id, EventFlags::OUT))
    }

    /// Fails a peer that has held the others up for too long, if that is wanted.
    fn judge(&mut self) {
        if self.on_slow == OnSlow::Drop
            && let Some((id, since)) = self.feed.held_up()
            // The server itself may not have run for a while: that is nobody's fault.
            && let now = now()
            && self.patience.ends(since.max(now.saturating_sub(2 * SLICE)), now)
        {
            self.peers.fail(id, Failure::slow());
            self.end(id);
        }
    }

    /// Lets the peers speak, and takes leave of those that no longer receive.
    fn update(&mut self) {
        self.peers.update();
        self.end_absent();
    }

    fn accept(&mut self) -> Result<(), Error> {
        for _ in 0..ACCEPTED_PER_TURN {
            match self.endpoint.accept()? {
                Accepted::Process { socket, pid } => {
                    self.shortage = None;
                    if let Some(id) = self.clients.find(pid) {
                        self.welcome(id, socket)?;
                    }
                }
                Accepted::Stranger => self.shortage = None,
                Accepted::Nobody => break,
                Accepted::Shortage(errno) => return self.wait_out_shortage(errno),
            }
        }
        Ok(())
    }

    /// Looks away from the listener, which stays readable, until the next chores.
    fn wait_out_shortage(&mut self, errno: Errno) -> Result<(), Error> {
        let since = *self.shortage.get_or_insert_with(Instant::now);
        if since.elapsed() > SHORTAGE_LIMIT && self.clients.any_awaited() {
            return Err(ipc_core::Error::system("accept a peer")(errno).into());
        }
        self.watch_listener(EventFlags::empty())
    }

    fn watch_listener(&self, flags: EventFlags) -> Result<(), Error> {
        epoll::modify(&self.epoll, self.endpoint, EventData::new_u64(LISTENER), flags)
            .map_err(|errno| ipc_core::Error::system("watch for peers")(errno).into())
    }

    /// Begins to serve a process that has a peer's id, if this is that peer's first connection.
    fn welcome(&mut self, id: PeerId, socket: OwnedFd) -> Result<(), Error> {
        let stage = self.clients.get_mut(id);
        if !matches!(stage, Stage::Awaited) || !self.peers.is_receiving(id) {
            return Ok(());
        }
        // It is about speed only; the kernel may give less.
        let _ = set_socket_send_buffer_size(&socket, self.send_buffer);
        // Edge-triggered, as a connection that has all there is would be ready all the time.
        let flags = EventFlags::OUT | EventFlags::ET;
        if let Err(errno) = epoll::add(&self.epoll, &socket, EventData::new_u64(id.0.into()), flags)
        {
            self.fail(id, &ipc_core::Error::system("watch a connection")(errno));
            return Ok(());
        }
        *stage = Stage::Connected { socket, is_writable: true };
        self.send(id)
    }

    fn handle_connection(&mut self, id: PeerId, flags: EventFlags) -> Result<(), Error> {
        let Stage::Connected { is_writable, .. } = self.clients.get_mut(id) else {
            return Ok(());
        };
        if flags.intersects(EventFlags::HUP | EventFlags::ERR) {
            self.end(id);
            return Ok(());
        }
        *is_writable = true;
        // Before what it is sent now gives the others something to do again.
        self.judge();
        self.send(id)
    }

    /// Reads on in the source and sends what it got to whoever can take it.
    fn read(&mut self) -> Result<(), Error> {
        if let Some((total, digest)) = self.feed.read()? {
            self.end_source(total, digest);
            self.end_absent();
        }
        self.peers.ids().try_for_each(|id| self.send(id))
    }

    /// Sends a peer as much as it takes.
    fn send(&mut self, id: PeerId) -> Result<(), Error> {
        let stage = self.clients.get_mut(id);
        let Stage::Connected { socket, is_writable: is_writable @ true } = stage else {
            return Ok(());
        };
        let sent = self.feed.send(id, socket);
        self.peers.set_awaited(id, matches!(sent, Ok(Sent::UntilFull)));
        match sent {
            Ok(Sent::AllSoFar) => {}
            Ok(Sent::EnoughForNow) => self.unfinished.push(id),
            Ok(Sent::UntilFull) => *is_writable = false,
            Ok(Sent::Everything) | Err(SendError::Connection(Errno::PIPE | Errno::CONNRESET)) => {
                self.end(id);
            }
            Err(SendError::Connection(errno)) => {
                self.fail(id, &ipc_core::Error::system("send to a peer")(errno));
            }
            Err(SendError::Source(error)) => return Err(error),
        }
        Ok(())
    }

    fn fail(&mut self, id: PeerId, error: &ipc_core::Error) {
        self.peers.fail(id, Failure::new(error));
        self.end(id);
    }

    fn end_absent(&mut self) {
        for id in self.peers.ids() {
            if !self.peers.is_receiving(id) {
                self.end(id);
            }
        }
    }

    /// Closes a peer's connection and waits no longer for it.
    ///
    /// A peer that closed it by itself has failed, but is not failed here: it says why over the
    /// control channel, or ends.
    fn end(&mut self, id: PeerId) {
        if self.clients.end(id) {
            self.feed.leave(id);
        }
    }
}
