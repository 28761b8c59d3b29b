//! What is changed inside guests: whatever fails, nothing of it stays, and what is done twice is done.

use std::time::SystemTime;

use pretty_assertions::assert_eq;

use super::*;
use crate::{
    action::{InjectFile, InjectNetworkInfo, Quiesce, SetAdminPassword, Unquiesce},
    hypervisor::{
        agent::{AgentFacts, Ended},
        fake::Happening,
    },
    model::{Secret, VifKind},
    plan::inside,
    testing::vif,
};

/// A host with one guest, whose agent can do all that is asked of it.
async fn with_agent() -> (TestHost, InstanceId) {
    let t = TestHost::new().await;
    let id = t.spawned(t.spec()).await;
    t.fake.emit(id, Happening::AgentUp);
    let commands = [
        "guest-exec",
        "guest-exec-status",
        "guest-file-open",
        "guest-file-write",
        "guest-file-close",
    ];
    t.fake.inside(id, |inside| {
        inside.facts.agent = AgentFacts {
            version: "1.0".to_owned(),
            commands: commands.map(str::to_owned).into(),
        };
    });
    (t, id)
}

fn file(instance: InstanceId) -> InjectFile {
    InjectFile {
        instance,
        path: "/etc/motd".to_owned(),
        contents: Secret::new(vec![7; 600 << 10]),
        mode: 0o644,
        owner: None,
    }
}

#[tokio::test]
async fn a_file_unwinds_from_every_step_and_is_written_twice() {
    let (t, id) = with_agent().await;
    assert_eq!(assert_unwinds(&t, async |_| file(id)).await, 1);
    let part = inside::part_of(id, "/etc/motd");
    let programs = t.fake.inside(id, |inside| inside.programs.clone());
    // The second run went well.
    let finish = inside::finish_file(&part, "/etc/motd", (0o644, None));
    let (begin, drop) = (inside::begin_file(&part), inside::drop_file(&part));
    assert_eq!(programs, [begin.clone(), drop, begin, finish]);
    for _ in 0..2 {
        let action = file(id);
        let mut task = t.task(&action).await;
        action.run(&mut task).await.unwrap();
        let written = t.fake.inside(id, |inside| inside.files[&part].len());
        assert_eq!(written, 600 << 10);
        let last = t.fake.inside(id, |inside| inside.programs.last().cloned());
        let finish = inside::finish_file(&part, "/etc/motd", (0o644, None));
        assert_eq!(last, Some(finish));
    }
}

#[tokio::test]
async fn whatever_call_of_the_agent_fails_its_part_of_a_file_is_removed() {
    let (t, id) = with_agent().await;
    let part = inside::part_of(id, "/etc/motd");
    for call in ["open_file", "write_file", "close_file"] {
        for after in [false, true] {
            let failure = HypervisorError::AgentTimeout(id);
            match after {
                true => t.fake.fail_after(call, Times::Next(1), failure),
                false => t.fake.fail(call, Times::Next(1), failure),
            }
            let action = file(id);
            let mut task = t.task(&action).await;
            let e = action.run(&mut task).await.unwrap_err();
            assert_eq!(e.reason(), "GUEST_AGENT_TIMEOUT", "{call}");
            assert_taken_back(&t, task).await;
            let last = t.fake.inside(id, |inside| inside.programs.last().cloned());
            assert_eq!(last, Some(inside::drop_file(&part)), "{call}");
            t.fake.heal();
        }
    }
}

#[tokio::test]
async fn a_file_that_cannot_take_its_place_is_told_in_the_guests_words() {
    let (t, id) = with_agent().await;
    let well = Ended {
        code: Some(0),
        ..Ended::default()
    };
    let badly = Ended {
        code: Some(1),
        err: b"it is a folder\n".to_vec(),
        ..Ended::default()
    };
    t.fake
        .inside(id, |inside| inside.endings = vec![well, badly]);
    let action = file(id);
    let mut task = t.task(&action).await;
    let e = action.run(&mut task).await.unwrap_err();
    assert_eq!(e.reason(), "GUEST_AGENT_ERROR");
    assert!(
        e.message().ends_with("ended with status 1: it is a folder"),
        "{e}"
    );
    assert_taken_back(&t, task).await;
}

#[tokio::test]
async fn a_guest_that_went_off_meanwhile_keeps_no_way_back_waiting() {
    let (t, id) = with_agent().await;
    let action = file(id);
    let mut task = t.task(&action).await.failing_at(0);
    action.run(&mut task).await.unwrap_err();
    t.fake.emit(id, Happening::Crash);
    assert_taken_back(&t, task).await;
}

#[tokio::test]
async fn an_agent_that_may_not_write_is_told_before_anything_is_begun() {
    let (t, id) = with_agent().await;
    t.fake
        .inside(id, |inside| inside.facts.agent.commands.pop());
    let action = file(id);
    let mut task = t.task(&action).await;
    let e = action.run(&mut task).await.unwrap_err();
    assert_eq!(e.reason(), "GUEST_AGENT_UNAVAILABLE");
    assert_eq!(e.fields()["agent_command"], "guest-file-close");
    assert_eq!(task.steps(), 0);
}

#[tokio::test]
async fn a_password_goes_to_the_administrator_unless_said() {
    let (t, id) = with_agent().await;
    let password = Secret::new("hunter2".to_owned());
    for account in [None, Some("eve".to_owned())] {
        let action = SetAdminPassword {
            instance: id,
            account,
            password: password.clone(),
        };
        let mut task = t.task(&action).await;
        action.run(&mut task).await.unwrap();
    }
    let set = t.fake.inside(id, |inside| inside.passwords.clone());
    assert_eq!(set.keys().collect::<Vec<_>>(), ["eve", "root"]);
}

#[tokio::test]
async fn a_guest_is_not_given_addresses_that_an_interface_does_not_have() {
    let t = TestHost::new().await;
    let mut spec = t.spec();
    spec.vifs = vec![vif(1, VifKind::User)];
    let named = spec.vifs[0].id.clone();
    let id = t.spawned(spec).await;
    t.fake.emit(id, Happening::AgentUp);
    let action = InjectNetworkInfo {
        instance: id,
        interfaces: vec![named],
    };
    let e = action.run(&mut t.task(&action).await).await.unwrap_err();
    assert_eq!(e.reason(), "INVALID_REQUEST");
    assert_eq!(e.details().violations[0].field, "interface_ids");
}

fn quiesce(instance: InstanceId) -> Quiesce {
    let time = Duration::from_secs(600);
    Quiesce { instance, time }
}

#[tokio::test]
async fn a_freeze_unwinds_from_every_step() {
    let (t, id) = with_agent().await;
    assert_eq!(assert_unwinds(&t, async |_| quiesce(id)).await, 1);
    // The last run went well, and was not taken back.
    assert!(t.fake.inside(id, |inside| inside.frozen));
    assert!(t.host.store.quiesced().borrow().contains_key(&id));
}

#[tokio::test]
async fn a_freeze_that_fails_before_or_after_its_effect_leaves_the_guest_thawed() {
    let (t, id) = with_agent().await;
    let message = "no".to_owned();
    let failure = HypervisorError::AgentFailed { guest: id, message };
    t.fake.fail("freeze", Times::Next(1), failure.clone());
    for _ in 0..2 {
        let action = quiesce(id);
        let mut task = t.task(&action).await;
        let e = action.run(&mut task).await.unwrap_err();
        assert_eq!(e.reason(), "QUIESCE_FAILED");
        assert_taken_back(&t, task).await;
        assert!(!t.fake.inside(id, |inside| inside.frozen));
        assert!(t.host.store.quiesced().borrow().is_empty());
        t.fake.fail_after("freeze", Times::Next(1), failure.clone());
    }
}

#[tokio::test]
async fn a_freeze_whose_way_back_is_not_heard_is_left_to_whoever_thaws_in_time() {
    let (t, id) = with_agent().await;
    let action = quiesce(id);
    let mut task = t.task(&action).await;
    action.run(&mut task).await.unwrap();
    t.fake
        .fail("thaw", Times::Always, HypervisorError::AgentTimeout(id));
    assert_taken_back(&t, task).await;
    let known = t.host.store.quiesced().borrow()[&id];
    assert!(known.until <= SystemTime::now());
}

#[tokio::test]
async fn a_frozen_guest_stays_so_under_the_new_deadline() {
    let (t, id) = with_agent().await;
    let mut until = Vec::new();
    for seconds in [600, 30] {
        let action = Quiesce {
            instance: id,
            time: Duration::from_secs(seconds),
        };
        let mut task = t.task(&action).await;
        action.run(&mut task).await.unwrap();
        let answer: crate::action::Frozen = task.report().record().answer().unwrap();
        assert_eq!(answer.filesystems, 1);
        until.push(answer.until);
    }
    assert!(until[1] < until[0]);
    let frozen = t
        .fake
        .calls()
        .iter()
        .filter(|call| **call == "freeze")
        .count();
    assert_eq!(frozen, 1);
    for expected in [1, 0] {
        let action = Unquiesce { instance: id };
        let mut task = t.task(&action).await;
        action.run(&mut task).await.unwrap();
        let answer: crate::action::Thawed = task.report().record().answer().unwrap();
        assert_eq!(answer.filesystems, expected);
    }
    assert!(t.host.store.quiesced().borrow().is_empty());
}
