//! The network namespaces of this host: those that a thread lives in, and those that `ip netns` gave a name.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    thread,
};

use rustix::{
    fs::statfs,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// Where `ip netns` binds the namespaces that it names.
const NAMED: &str = "/run/netns";

/// A network namespace.
#[derive(Clone, Debug)]
pub(super) struct Namespace {
    /// Its inode number in nsfs, as `/proc/PID/ns/net` shows it.
    pub(super) inode: u64,
    /// A file that stands for it.
    path: PathBuf,
    /// The `net` folder in procfs of a thread that lives there.
    tables: Option<PathBuf>,
}

/// Every namespace that was found.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Each once; the own one first, because a thread that has left it may have no right to come back.
    pub(super) namespaces: Vec<Namespace>,
    /// Processes whose namespace this process has no right to know.
    pub(super) hidden: usize,
}

/// Why a namespace was not entered or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// It, or the thread that stood for it, has gone meanwhile.
    Gone,
    /// The right is lacking, or something else that others have: it is there and not seen.
    Refused,
}

impl From<io::Error> for Obstacle {
    fn from(error: io::Error) -> Self {
        // What procfs says of a thread that ends, before, while and after its files are opened.
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ESRCH | libc::ENXIO) => Self::Gone,
            _ => Self::Refused,
        }
    }
}

/// Looks at every thread, since one may live elsewhere than its process, and at every name.
pub(super) fn list() -> io::Result<Listing> {
    let mut found = BTreeMap::new();
    let mut hidden = 0;
    for pid in numbers(Path::new("/proc"))? {
        let tasks = PathBuf::from(format!("/proc/{pid}/task"));
        for task in numbers(&tasks).unwrap_or_default() {
            let task = tasks.join(task.to_string());
            let path = task.join("ns/net");
            match fs::metadata(&path) {
                Ok(metadata) => {
                    let namespace =
                        || Namespace { inode: metadata.ino(), path, tables: Some(task.join("net")) };
                    found.entry(metadata.ino()).or_insert_with(namespace);
                }
                // It is the same for the process's other threads.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    hidden += 1;
                    break;
                }
                // Ended meanwhile.
                Err(_) => {}
            }
        }
    }
    for entry in fs::read_dir(NAMED).into_iter().flatten().flatten() {
        let path = entry.path();
        // A name is an ordinary file until the namespace is bound to it.
        let bound = statfs(&path).is_ok_and(|file_system| file_system.f_type == libc::NSFS_MAGIC);
        if bound && let Ok(metadata) = fs::metadata(&path) {
            let namespace = || Namespace { inode: metadata.ino(), path, tables: None };
            found.entry(metadata.ino()).or_insert_with(namespace);
        }
    }
    let own = own()?;
    let mut namespaces: Vec<Namespace> = found.into_values().collect();
    namespaces.sort_by_key(|namespace| namespace.inode != own);
    Ok(Listing { namespaces, hidden })
}

/// The entries of a folder that are numbers, in ascending order: the oldest process of a namespace stands for it.
pub(super) fn numbers(folder: &Path) -> io::Result<Vec<u32>> {
    let names = fs::read_dir(folder)?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut numbers: Vec<u32> = names.collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The inode number of the namespace that this thread is in.
fn own() -> io::Result<u64> {
    Ok(fs::metadata("/proc/thread-self/ns/net")?.ino())
}

impl Namespace {
    /// Moves this thread there, if it is not there already. Call it on a thread of its own only: see [`on_a_thread`].
    pub(super) fn enter(&self) -> Result<(), Obstacle> {
        if own()? == self.inode {
            return Ok(());
        }
        let file = File::open(&self.path)?;
        // The thread that stood for it may have gone, and its number be another's.
        if file.metadata()?.ino() != self.inode {
            return Err(Obstacle::Gone);
        }
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).map_err(io::Error::from)?;
        Ok(())
    }

    /// Reads a table of its `/proc/net`, without entering it where a thread lives there. What has no IPv6 has no table
    /// of it, which is not an obstacle to `read`: it gets the file's own error.
    pub(super) fn table<T>(
        &self,
        name: &str,
        read: impl FnOnce(io::Result<File>) -> io::Result<T>,
    ) -> Result<T, Obstacle> {
        let Some(tables) = &self.tables else {
            self.enter()?;
            return Ok(read(File::open(Path::new("/proc/thread-self/net").join(name)))?);
        };
        let read = read(File::open(tables.join(name)))?;
        // As above: what was read is this namespace's only if the thread is still the one.
        if fs::metadata(&self.path)?.ino() == self.inode { Ok(read) } else { Err(Obstacle::Gone) }
    }
}

/// Runs `act` on a new thread, which is free to change its namespace because it ends with `act`.
pub(super) fn on_a_thread<T: Send>(act: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, act)?;
        thread.join().map_err(|_| io::Error::other("a thread ended early"))
    })
}
