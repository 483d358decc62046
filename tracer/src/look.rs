//! What the end of a window needs beside the ring: which connections are open now, and who listens. Looked up on a thread
//! of its own while the ring goes on being emptied; the answer is as old as the look takes.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use tokio::task::{JoinError, JoinHandle, spawn_blocking};

use crate::{
    broker::{self, Listener, Listeners, OpenNow, Scanner},
    grouping::Grouping,
};

/// Shorter windows share a look: one walks over every thread of the host and every connection of the broker.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// What was found.
#[derive(Debug, Default)]
pub struct Look {
    /// What each source holds open.
    pub open: HashMap<IpAddr, OpenNow>,
    /// Who listens on the watched ports.
    pub listeners: Listeners,
    /// Network namespaces whose open connections could not be listed.
    pub unseen: u64,
}

impl Look {
    /// Who listens for connections to `destination`: of several the one that is bound to its address.
    pub fn listener(&self, netns: u32, destination: SocketAddr) -> Option<&Listener> {
        let fits = |listener: &&Listener| {
            let address = listener.address;
            listener.netns == u64::from(netns)
                && address.port() == destination.port()
                && (address.ip().is_unspecified() || address.ip().to_canonical() == destination.ip())
        };
        self.listeners
            .listeners
            .iter()
            .filter(fits)
            .min_by_key(|listener| listener.address.ip().is_unspecified())
    }
}

/// Looks when told to, one look at a time.
pub struct Looker {
    eyes: Option<Eyes>,
    looking: Option<JoinHandle<(Eyes, Look)>>,
    last: Option<Instant>,
}

/// What is kept from one look to the next.
struct Eyes {
    ports: Vec<u16>,
    scanner: Scanner,
    grouping: Grouping,
    listeners: Listeners,
}

impl Looker {
    /// Has not looked yet.
    pub fn new(ports: &[u16], grouping: Grouping) -> Self {
        let listeners = Listeners::default();
        let eyes = Eyes { ports: ports.to_owned(), scanner: Scanner::new(ports), grouping, listeners };
        Self { eyes: Some(eyes), looking: None, last: None }
    }

    /// Whether a look is going on.
    pub const fn is_looking(&self) -> bool {
        self.looking.is_some()
    }

    /// Begins a look, if none is going on and the last was not just now; returns whether one is going on.
    pub fn begin(&mut self) -> bool {
        let due = self.last.is_none_or(|last| last.elapsed() >= LEAST_PAUSE);
        if due && let Some(eyes) = self.eyes.take() {
            self.last = Some(Instant::now());
            self.looking = Some(spawn_blocking(move || eyes.look()));
        }
        self.is_looking()
    }

    /// Completes with the look that is going on; never if there is none.
    pub async fn end(&mut self) -> Result<Look, JoinError> {
        let Some(looking) = &mut self.looking else { return std::future::pending().await };
        let (eyes, look) = looking.await?;
        self.looking = None;
        self.eyes = Some(eyes);
        Ok(look)
    }

    /// One last look, whatever is going on.
    pub async fn last(mut self) -> Result<Look, JoinError> {
        if self.looking.is_none() {
            self.last = None;
            self.begin();
        }
        self.end().await
    }
}

impl Eyes {
    fn look(mut self) -> (Self, Look) {
        if let Ok(listeners) = broker::find(&self.ports, &self.listeners) {
            self.listeners = listeners;
        }
        let mut look = Look { listeners: self.listeners.clone(), ..Look::default() };
        match self.scanner.scan() {
            Ok(scan) => {
                look.unseen = u64::try_from(scan.unreadable).unwrap_or(u64::MAX);
                for (source, open) in broker::by_source(&scan.connections) {
                    look.open.entry(self.grouping.source(source)).or_default().merge(&open);
                }
            }
            // Which of the namespaces it was does not matter to who reads the count: it is at least one.
            Err(_) => look.unseen = 1,
        }
        (self, look)
    }
}
