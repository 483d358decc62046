//! Names of sources by reverse DNS, only when asked for: it tells the name servers which addresses are looked at, and who
//! owns an address says what its name is.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

/// How many names are kept.
const MOST: usize = 10_000;

/// For how long a name, or that there is none, is believed.
const BELIEVED: Duration = Duration::from_secs(600);

/// How long the end of a window waits for names; those that come later are in the next.
const PATIENCE: Duration = Duration::from_millis(300);

/// How many name servers' answers are waited for at once.
const THREADS: usize = 4;

/// How many addresses wait to be asked for; what finds no room is asked for in the next window.
const WAITING: usize = 1_000;

/// An address with its name.
type Answer = (IpAddr, Option<String>);

/// Names as far as they are known.
#[derive(Debug)]
pub struct Names {
    known: HashMap<IpAddr, Known>,
    ask: SyncSender<IpAddr>,
    answers: Receiver<Answer>,
}

#[derive(Debug)]
enum Known {
    /// Nobody has answered yet.
    Asked,
    /// The answer, and when it came.
    Told(Option<String>, Instant),
}

impl Names {
    /// Starts the threads that ask; they end when this is dropped and their last answer has come.
    pub fn start() -> io::Result<Self> {
        let (ask, asked) = sync_channel(WAITING);
        let (tell, answers) = channel();
        let asked = Arc::new(Mutex::new(asked));
        for number in 0..THREADS {
            let (asked, tell) = (Arc::clone(&asked), tell.clone());
            thread::Builder::new().name(format!("names-{number}")).spawn(move || answer(&asked, &tell))?;
        }
        Ok(Self { known: HashMap::new(), ask, answers })
    }

    /// The name of `source`, if it is known and has one.
    pub fn get(&self, source: IpAddr) -> Option<&str> {
        match self.known.get(&source)? {
            Known::Told(name, _) => name.as_deref(),
            Known::Asked => None,
        }
    }

    /// Asks for the names of these that are not known, and waits a moment for the answers.
    pub fn look_up(&mut self, sources: impl Iterator<Item = IpAddr>) {
        let mut waiting = self.known.values().filter(|known| matches!(known, Known::Asked)).count();
        self.known.retain(|_, known| !matches!(known, Known::Told(_, at) if at.elapsed() > BELIEVED));
        for source in sources {
            if self.known.len() >= MOST {
                break;
            }
            if !self.known.contains_key(&source) && self.ask.try_send(source).is_ok() {
                self.known.insert(source, Known::Asked);
                waiting += 1;
            }
        }
        let end = Instant::now() + PATIENCE;
        while waiting > 0 {
            match self.answers.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok((source, name)) => {
                    self.known.insert(source, Known::Told(name, Instant::now()));
                    waiting -= 1;
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
    }
}

/// Answers until nobody asks any more.
fn answer(asked: &Mutex<Receiver<IpAddr>>, tell: &Sender<Answer>) {
    loop {
        // Only receiving needs the lock; it is given back before the name server is asked.
        let next = asked.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(source) = next else { return };
        let name = dns_lookup::lookup_addr(&source).ok().filter(|name| is_host_name(name));
        if tell.send((source, name)).is_err() {
            return;
        }
    }
}

/// Whether it is what a host may be called (RFC 1123, section 2.1, and the underscore that some use). Who owns the address
/// chooses the name, and what else he might choose has no place on a terminal or in a log. An address is no name.
fn is_host_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    !name.is_empty() && name.len() <= 255 && name.chars().all(fits) && name.parse::<IpAddr>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_host_names_are_names() {
        for name in ["localhost", "lb-1.example.com", "a_b.example", "xn--bcher-kva.example"] {
            assert!(is_host_name(name), "{name}");
        }
        let long = "a".repeat(256);
        for other in ["", "10.0.0.1", "a b", "a\nb", "\u{1b}[31mred", "bücher.example", "a\"b", &long] {
            assert!(!is_host_name(other), "{other}");
        }
    }
}
