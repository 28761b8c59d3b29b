//! A snapshot of a volume that a crash cuts, at each word that is written down of it.

use std::{fs, path::Path};

use computedriver::v1;
use uuid::Uuid;

use super::{FILL, SUM, create, guest, over, sum, sum_of, volumes};
use crate::{
    devices::power,
    support::{Reader, Sandbox, Shell, reason, until},
};

suite! {
    a_snapshot_that_a_crash_cut_is_made_or_not_and_says_which,
}

/// Where a snapshot is cut: a step, and whether that is done first and nothing is written down any more.
const CUTS: [(&str, bool); 5] = [
    ("freeze guest", false),
    ("overlay disk", false),
    ("overlay disk", true),
    ("redefine guest", false),
    ("redefine guest", true),
];

/// Waits until the guest's agent answers.
async fn agent(sandbox: &Sandbox, id: &str) {
    let asked = v1::GetGuestInfoRequest {
        instance_id: id.to_owned(),
    };
    until("an agent", async || {
        let told = sandbox.guests().await.get_guest_info(asked.clone()).await;
        told.ok()
    })
    .await;
}

/// Lets a snapshot begin, and kills the server there; whether it was not faster.
async fn cut(
    sandbox: &mut Sandbox,
    of: (&str, &str),
    (snapshot, file, old): (Uuid, &Path, &Path),
    (step, done): (&'static str, bool),
) -> bool {
    let mut word = Reader::of(sandbox, step, done);
    let name = file.file_name().unwrap().to_str().unwrap();
    let book = tokio::select! {
        biased;
        book = word.word() => book,
        told = create(sandbox, of, (snapshot, name), true) => {
            told.unwrap();
            return false;
        }
    };
    if done {
        // A guest only reads what is below; both files are open from before that step.
        let is_over = || sandbox.writes(file) && !sandbox.writes(old);
        let there = || std::future::ready(is_over().then_some(()));
        until("the guest to go on in the new file", there).await;
    }
    sandbox.kill();
    drop(book);
    sandbox.launch();
    sandbox.ready().await;
    true
}

/// Whether the newest operation was done; one that was not says that it was cut.
async fn is_done(sandbox: &Sandbox, id: &str) -> bool {
    let asked = v1::ListOperationsRequest {
        instance_id: id.to_owned(),
        page_size: 1,
        ..Default::default()
    };
    let newest = sandbox.operations().await.list_operations(asked).await;
    let newest = newest.unwrap().into_inner().operations.remove(0);
    assert_eq!(newest.verb, "CreateVolumeSnapshot");
    match newest.state() {
        v1::OperationState::Succeeded => true,
        v1::OperationState::Failed => {
            let e = newest.error.unwrap();
            assert_eq!(e.reason(), v1::Reason::OperationInterrupted);
            assert_eq!(e.fields["power_state"], "RUNNING");
            false
        }
        other => panic!("{other:?}"),
    }
}

async fn a_snapshot_that_a_crash_cut_is_made_or_not_and_says_which(sandbox: &mut Sandbox) {
    let (id, volume, mut shell) = guest(sandbox).await;
    let of = (id.as_str(), volume.as_str());
    shell.run(FILL).await;
    let mut expected = sum(&shell.run(SUM).await);
    drop(shell);
    let mut base = "v0".to_owned();
    let mut cuts = CUTS.into_iter().peekable();
    for nth in 1.. {
        let Some(at) = cuts.peek().copied() else {
            break;
        };
        assert!(nth < 4 * CUTS.len(), "it is never cut at {at:?}");
        agent(sandbox, &id).await;
        let name = format!("v{nth}");
        let (snapshot, file) = (Uuid::new_v4(), over(sandbox, &name, &base));
        let old = volumes(sandbox).join(&base);
        if !cut(sandbox, of, (snapshot, &file, &old), at).await {
            base = name;
            continue;
        }
        cuts.next();
        let done = is_done(sandbox, &id).await;
        println!("cut at {at:?}: done is {done}");
        if at.1 {
            assert!(done, "the guest was in the new file at {at:?}");
        }
        assert_eq!(sandbox.has_open(&file), done, "{at:?}");
        let mut shell = Shell::login(sandbox, &id).await;
        assert_eq!(sum(&shell.run(SUM).await), expected, "{at:?}");
        // Not frozen any more, and its bytes go where the record says.
        shell.run(FILL).await;
        expected = sum(&shell.run(SUM).await);
        drop(shell);
        if done {
            // The same again is the same answer; one that does not know of it is refused.
            let again = create(sandbox, of, (snapshot, &name), true).await;
            assert!(again.unwrap(), "{at:?}");
            let other = create(sandbox, of, (Uuid::new_v4(), &name), true).await;
            let e = other.unwrap_err();
            assert_eq!(reason(&e), "VOLUME_UNUSABLE");
            base = name;
        } else {
            fs::remove_file(&file).unwrap();
        }
    }
    assert_ne!(base, "v0", "none was made");
    power(sandbox, &id, false).await;
    assert_eq!(sum_of(sandbox, &base), expected);
    power(sandbox, &id, true).await;
    let mut shell = Shell::login(sandbox, &id).await;
    assert_eq!(sum(&shell.run(SUM).await), expected);
    assert!(volumes(sandbox).join(&base).is_file());
    sandbox.destroy(&id).await.unwrap();
    sandbox.assert_clean().await;
}
