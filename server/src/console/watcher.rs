//! Tells readers that a file or a folder changed, by inotify.
//!
//! One instance of inotify for all: a user may have 128 instances by default, but thousands of watches. A watch is
//! shared by all who look at the same file. A log is watched itself; its folder only while the log does not exist,
//! and only for new names: disks live there too, and their writes must not wake us.
//!
//! A thread of its own reads the events, since the runtime takes strange descriptors only by `unsafe`. It sleeps in
//! the kernel until something happens.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, PipeReader, PipeWriter},
    mem::MaybeUninit,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
};

use parking_lot::Mutex;
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
    io::Errno,
};
use tokio::sync::watch;
use tracing::error;

/// Room for some hundred events at a time; more wait in the kernel.
const BUFFER: usize = 4096;

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Log,
    Folder,
}

impl What {
    fn flags(self) -> WatchFlags {
        match self {
            // Removing an open file changes its link count: an attribute.
            Self::Log => WatchFlags::MODIFY | WatchFlags::ATTRIB | WatchFlags::MOVE_SELF,
            Self::Folder => {
                WatchFlags::CREATE
                    | WatchFlags::MOVED_TO
                    | WatchFlags::DELETE_SELF
                    | WatchFlags::MOVE_SELF
                    | WatchFlags::ONLYDIR
            }
        }
    }
}

/// Watches logs for any number of readers; cheap to clone.
#[derive(Clone, Debug)]
pub struct Watcher(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    watches: Arc<Watches>,
    /// The thread, and what it ends by when it is dropped. Both are there until then.
    dispatcher: Option<(PipeWriter, JoinHandle<()>)>,
}

#[derive(Debug)]
struct Watches {
    inotify: OwnedFd,
    /// Held over adding and removing, so that an event never meets a watch that is not listed. None once the
    /// dispatcher has given up.
    listed: Mutex<Option<HashMap<i32, Watch>>>,
}

#[derive(Debug)]
struct Watch {
    readers: usize,
    changes: watch::Sender<()>,
}

impl Watcher {
    /// Starts watching, on a thread that ends with the last clone and the last reader.
    ///
    /// # Errors
    /// When the kernel gives no instance of inotify, or no thread.
    pub fn start() -> io::Result<Self> {
        let watches = Arc::new(Watches {
            inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            listed: Mutex::new(Some(HashMap::new())),
        });
        let (stopped, stop) = io::pipe()?;
        let dispatched = watches.clone();
        let thread = thread::Builder::new()
            .name("console-watch".to_owned())
            .spawn(move || dispatch(&dispatched, &stopped))?;
        Ok(Self(Arc::new(Parts {
            watches,
            dispatcher: Some((stop, thread)),
        })))
    }

    /// How many files and folders are watched.
    #[cfg(test)]
    pub(super) fn watches(&self) -> usize {
        let listed = self.0.watches.listed.lock();
        listed.as_ref().map_or(0, HashMap::len)
    }

    pub(super) fn watch_file(&self, file: &File) -> io::Result<Subscription> {
        let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
        self.watch(Path::new(&opened), What::Log)
    }

    pub(super) fn watch(&self, path: &Path, what: What) -> io::Result<Subscription> {
        let watches = &self.0.watches;
        let mut listed = watches.listed.lock();
        let listed = listed.as_mut().ok_or_else(ended)?;
        let id = inotify::add_watch(&watches.inotify, path, what.flags())?;
        let watch = listed.entry(id).or_insert_with(|| Watch {
            readers: 0,
            changes: watch::channel(()).0,
        });
        watch.readers += 1;
        Ok(Subscription {
            id,
            changes: watch.changes.subscribe(),
            watcher: self.clone(),
        })
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.dispatcher.take() {
            drop(stop);
            // It holds nothing that could make it wait, and has said what went wrong.
            let _ended = thread.join();
        }
    }
}

/// Wakes readers until `stopped` is closed at its other end.
fn dispatch(watches: &Watches, stopped: &PipeReader) {
    loop {
        let mut ready = [
            PollFd::new(&watches.inotify, PollFlags::IN),
            PollFd::new(stopped, PollFlags::IN),
        ];
        let woken = match poll(&mut ready, None) {
            Ok(_) if !ready[1].revents().is_empty() => return,
            Ok(_) => watches.wake(),
            Err(Errno::INTR) => continue,
            Err(e) => Err(e.into()),
        };
        if let Err(e) = woken {
            error!(error = %e, "console logs are no longer watched");
            *watches.listed.lock() = None;
            return;
        }
    }
}

impl Watches {
    /// Passes on what one read gives.
    fn wake(&self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut events = Reader::new(&self.inotify, &mut buffer);
        loop {
            let (id, flags) = match events.next() {
                Ok(event) => (event.wd(), event.events()),
                Err(Errno::INTR) => continue,
                // An event may be taken back between its announcement and its reading.
                Err(Errno::WOULDBLOCK) => return Ok(()),
                Err(e) => return Err(e.into()),
            };
            let listed = self.listed.lock();
            let listed = listed.as_ref().ok_or_else(ended)?;
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                listed.values().for_each(Watch::wake);
            } else if let Some(watch) = listed.get(&id) {
                watch.wake();
            }
            if events.is_buffer_empty() {
                return Ok(());
            }
        }
    }
}

impl Watch {
    fn wake(&self) {
        self.changes.send_replace(());
    }
}

/// One reader's share of a watch.
#[derive(Debug)]
pub(super) struct Subscription {
    id: i32,
    changes: watch::Receiver<()>,
    watcher: Watcher,
}

impl Subscription {
    /// What happened so far needs no waking.
    pub(super) fn mark(&mut self) {
        self.changes.mark_unchanged();
    }

    /// Waits for a change since the last [`Subscription::mark`].
    pub(super) async fn changed(&mut self) -> io::Result<()> {
        self.changes.changed().await.map_err(|_closed| ended())
    }
}

/// The dispatcher has said why.
fn ended() -> io::Error {
    io::Error::other("logs are no longer watched")
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let watches = &self.watcher.0.watches;
        let mut listed = watches.listed.lock();
        let Some(listed) = listed.as_mut() else {
            return;
        };
        let Some(watch) = listed.get_mut(&self.id) else {
            return;
        };
        watch.readers -= 1;
        if watch.readers == 0 {
            listed.remove(&self.id);
            // The kernel forgets the watch of a removed file by itself and then refuses this.
            let _forgotten = inotify::remove_watch(&watches.inotify, self.id);
        }
    }
}
