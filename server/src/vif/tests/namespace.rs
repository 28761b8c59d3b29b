//! A network namespace for one test. Needs root; without it the test says so and does nothing.

use std::{fs::File, os::fd::AsFd, thread};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use uuid::Uuid;

use crate::sys::command::Command;

/// Runs `test` on a thread that lives in a network namespace of its own, which is gone afterwards.
///
/// The thread has a runtime of one thread, itself: netlink sockets and commands that the test opens are of that
/// namespace.
pub(super) fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: a network namespace needs root");
        return;
    }
    let name = format!("computelet-{}", &Uuid::new_v4().simple().to_string()[..12]);
    on_runtime(ip(&format!("netns add {name}")));
    let inside = || {
        let namespace = File::open(format!("/run/netns/{name}")).unwrap();
        let network = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(namespace.as_fd(), network).unwrap();
        on_runtime(test());
    };
    let result = thread::scope(|scope| scope.spawn(inside).join());
    on_runtime(ip(&format!("netns del {name}")));
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

fn on_runtime<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(work)
}

/// What `ip` prints for these words.
pub(super) async fn ip(words: &str) -> String {
    let ip = Command::new("ip").args(words.split(' '));
    let output = ip.run().await.unwrap_or_else(|e| panic!("ip {words}: {e}"));
    String::from_utf8(output.stdout).unwrap()
}
