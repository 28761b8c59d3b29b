use std::{
    sync::mpsc::{Receiver, Sender, channel},
    time::Duration,
};

use super::*;

const GIVEN_UP: usize = 8;
const LIMIT: Duration = Duration::from_secs(60);

fn pool(workers: usize, queue: usize) -> Arc<Pool> {
    let size = Size {
        workers,
        queue,
        given_up: GIVEN_UP,
    };
    Pool::start("test", size).unwrap()
}

/// A job that says that it runs and then waits to be let go.
fn held() -> (Job, Receiver<()>, Sender<()>) {
    let (running_tx, running_rx) = channel();
    let (go_tx, go_rx) = channel::<()>();
    let job = move |_: &mut Line| {
        // The test may have ended.
        let _ = running_tx.send(());
        let _ = go_rx.recv();
    };
    (Box::new(job), running_rx, go_tx)
}

fn noted() -> (Job, Receiver<()>) {
    let (done_tx, done_rx) = channel();
    let job = move |_: &mut Line| {
        // The test may have ended.
        let _ = done_tx.send(());
    };
    (Box::new(job), done_rx)
}

#[test]
fn a_full_queue_refuses_at_once() {
    let pool = pool(1, 1);
    let limit = Instant::now() + LIMIT;
    let (job, running, _go) = held();
    pool.submit(job, limit).unwrap();
    running.recv_timeout(LIMIT).unwrap();
    let (waits, _) = noted();
    pool.submit(waits, limit).unwrap();
    let (refused, _) = noted();
    assert_eq!(pool.submit(refused, limit), Err(Full));
}

#[test]
fn a_worker_that_hangs_is_replaced_and_leaves_when_it_comes_back() {
    let pool = pool(1, 8);
    let limit = Instant::now() + LIMIT;
    let (job, running, go) = held();
    pool.submit(job, limit).unwrap();
    running.recv_timeout(LIMIT).unwrap();
    pool.give_up_late(&mut pool.state.lock(), limit + LIMIT);
    assert_eq!(pool.state.lock().hired, 2);
    let (next, done) = noted();
    pool.submit(next, limit).unwrap();
    done.recv_timeout(LIMIT).unwrap();
    // The replacement is busy when the old one comes back: only one of them may serve what follows.
    let (job, running, _go) = held();
    pool.submit(job, limit).unwrap();
    running.recv_timeout(LIMIT).unwrap();
    drop(go);
    let (never, done) = noted();
    pool.submit(never, limit).unwrap();
    assert!(
        done.recv_timeout(Duration::from_millis(200)).is_err(),
        "the old one left"
    );
    assert!(pool.state.lock().given_up.is_empty());
}

#[test]
fn only_so_many_workers_are_given_up() {
    let workers = GIVEN_UP + 2;
    let pool = pool(workers, workers);
    let limit = Instant::now() + LIMIT;
    let hung: Vec<_> = (0..workers)
        .map(|_| {
            let (job, running, go) = held();
            pool.submit(job, limit).unwrap();
            running.recv_timeout(LIMIT).unwrap();
            go
        })
        .collect();
    pool.give_up_late(&mut pool.state.lock(), limit + LIMIT);
    assert_eq!(pool.state.lock().given_up.len(), GIVEN_UP);
    drop(hung);
}

#[test]
fn a_job_whose_time_is_over_is_dropped_unrun() {
    let pool = pool(1, 8);
    let limit = Instant::now() + LIMIT;
    let (job, running, go) = held();
    pool.submit(job, limit).unwrap();
    running.recv_timeout(LIMIT).unwrap();
    let (late, late_done) = noted();
    pool.submit(late, Instant::now()).unwrap();
    let (next, done) = noted();
    pool.submit(next, limit).unwrap();
    drop(go);
    done.recv_timeout(LIMIT).unwrap();
    assert!(
        late_done.recv_timeout(LIMIT).is_err(),
        "dropped with its channel"
    );
}

#[test]
fn a_closed_pool_takes_and_runs_nothing_more() {
    let pool = pool(1, 8);
    let limit = Instant::now() + LIMIT;
    let (job, running, go) = held();
    pool.submit(job, limit).unwrap();
    running.recv_timeout(LIMIT).unwrap();
    let (waits, done) = noted();
    pool.submit(waits, limit).unwrap();
    pool.close();
    drop(go);
    assert!(
        done.recv_timeout(LIMIT).is_err(),
        "dropped with its channel"
    );
    let (refused, _) = noted();
    assert_eq!(pool.submit(refused, limit), Err(Full));
}
