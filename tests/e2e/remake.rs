//! Instances get another size, and are made anew from another image.

use std::path::PathBuf;

use computedriver::v1::{self, Phase, PowerState};
use tonic::{Code, Status};

use crate::{
    power::state,
    support::{Sandbox, Shell, guest, guest_request, image, reason, request, until},
};

suite! {
    a_disk_grows_under_a_guest_and_processors_come_with_a_restart,
    processors_and_memory_come_while_the_guest_runs,
    a_guest_is_made_anew_and_the_old_one_comes_back_when_the_new_does_not_boot,
    a_crash_in_the_middle_leaves_the_instance_as_it_was,
}

const READY: &str = "GUEST-MILESTONE-ready";
/// The first word of the guest's kernel. On a busy host one with two processors, translated, may take minutes from there.
const KERNEL: &str = "Linux version";

/// Reads a call's stream to its end; the phases that it told.
macro_rules! finish {
    ($answers:expr, $event:path) => {
        async {
            use $event as Event;
            let mut answers = $answers?.into_inner();
            let mut phases = Vec::new();
            while let Some(message) = answers.message().await? {
                match message.event {
                    Some(Event::Progress(told)) => phases.push(told.phase()),
                    Some(Event::Instance(instance)) => return Ok((instance, phases)),
                    Some(Event::Heartbeat(_)) | None => {}
                }
            }
            Err(Status::internal("the stream ended without a result"))
        }
    };
}

async fn resize(
    sandbox: &Sandbox,
    id: &str,
    mode: v1::ResizeMode,
    (vcpus, root_gib): (u32, u64),
) -> Result<(v1::Instance, Vec<Phase>), Status> {
    let request = v1::ResizeRequest {
        instance_id: id.to_owned(),
        flavor: Some(v1::Flavor {
            vcpus,
            memory_mib: 128,
            root_gib,
            ..Default::default()
        }),
        mode: mode.into(),
        ..Default::default()
    };
    let answers = sandbox.instances().await.resize(request).await;
    finish!(answers, v1::resize_response::Event).await
}

fn rebuild(id: &str, image: v1::Image, wait: (&str, i64)) -> v1::RebuildRequest {
    let (pattern, seconds) = wait;
    v1::RebuildRequest {
        instance_id: id.to_owned(),
        image: Some(image),
        metadata: [("role".to_owned(), "db".to_owned())].into(),
        wait_for: Some(v1::WaitFor {
            timeout: crate::power::seconds(seconds),
            condition: Some(v1::wait_for::Condition::ConsolePattern(pattern.to_owned())),
        }),
        ..Default::default()
    }
}

async fn remade(
    sandbox: &Sandbox,
    request: v1::RebuildRequest,
) -> Result<(v1::Instance, Vec<Phase>), Status> {
    let answers = sandbox.instances().await.rebuild(request).await;
    finish!(answers, v1::rebuild_response::Event).await
}

async fn log(sandbox: &Sandbox, id: &str) -> String {
    let asked = v1::GetConsoleOutputRequest {
        instance_id: id.to_owned(),
        tail_bytes: 1 << 20,
        ..Default::default()
    };
    let told = sandbox.console().await.get_console_output(asked).await;
    String::from_utf8_lossy(&told.unwrap().into_inner().output).into_owned()
}

async fn instance(sandbox: &Sandbox, id: &str) -> v1::Instance {
    let asked = v1::GetInstanceRequest {
        instance_id: id.to_owned(),
    };
    let told = sandbox.instances().await.get_instance(asked).await;
    told.unwrap().into_inner().instance.unwrap()
}

async fn processors(sandbox: &Sandbox, id: &str) -> u32 {
    let asked = v1::GetInfoRequest {
        instance_id: id.to_owned(),
    };
    let told = sandbox.instances().await.get_info(asked).await;
    told.unwrap().into_inner().info.unwrap().num_cpu
}

/// The tiny guest's image under another name, with other bytes.
fn another(sandbox: &Sandbox) -> v1::Image {
    let to = sandbox.path().join("another.qcow2");
    std::fs::copy(guest().join("guest.qcow2"), &to).expect("a copy");
    let mut file = std::fs::File::options().append(true).open(&to).unwrap();
    std::io::Write::write_all(&mut file, &[0; 65536]).unwrap();
    v1::Image {
        image_id: "another".to_owned(),
        ..image(&to, v1::DiskFormat::Qcow2)
    }
}

/// What is kept for the way back in an instance's folder.
fn aside(sandbox: &Sandbox, id: &str) -> Vec<PathBuf> {
    let folder = sandbox.path().join("instances").join(id);
    let files = std::fs::read_dir(folder).unwrap();
    let files = files.map(|file| file.unwrap().path());
    files
        .filter(|path| path.to_string_lossy().contains(".aside"))
        .collect()
}

async fn a_disk_grows_under_a_guest_and_processors_come_with_a_restart(sandbox: &mut Sandbox) {
    let (spawned, _) = sandbox.spawn(guest_request(READY)).await.unwrap();
    let id = &spawned.instance_id;
    let live = v1::ResizeMode::LiveOnly;
    let refused = resize(sandbox, id, live, (2, 2)).await.unwrap_err();
    assert_eq!(reason(&refused), "NOT_SUPPORTED");
    let (grown, phases) = resize(sandbox, id, live, (1, 2)).await.unwrap();
    assert_eq!(grown.flavor.unwrap().root_gib, 2);
    assert!(!phases.contains(&Phase::Stop), "{phases:?}");
    // The guest's kernel says so itself.
    let told = || async { log(sandbox, id).await.contains("new size").then_some(()) };
    until("the guest to see its disk grow", told).await;
    let smaller = resize(sandbox, id, live, (1, 1)).await.unwrap_err();
    assert_eq!(smaller.code(), Code::FailedPrecondition);
    assert_eq!(reason(&smaller), "FLAVOR_DISK_TOO_SMALL");

    let restart = v1::ResizeMode::MayRestart;
    let (grown, phases) = resize(sandbox, id, restart, (2, 3)).await.unwrap();
    assert!(phases.contains(&Phase::Shutdown), "{phases:?}");
    let flavor = grown.flavor.unwrap();
    assert_eq!((flavor.vcpus, flavor.root_gib), (2, 3));
    assert_eq!(processors(sandbox, id).await, 2);
    let again = || async { (log(sandbox, id).await.matches(KERNEL).count() == 2).then_some(()) };
    until("the guest to boot again", again).await;
    let (_, phases) = resize(sandbox, id, restart, (2, 3)).await.unwrap();
    assert_eq!(phases, [], "it is so already");
    sandbox.destroy(id).await.unwrap();
    sandbox.assert_clean().await;
}

async fn processors_and_memory_come_while_the_guest_runs(sandbox: &mut Sandbox) {
    let mut request = guest_request(READY);
    let roomy = v1::Flavor {
        vcpus: 1,
        memory_mib: 256,
        max_vcpus: 3,
        max_memory_mib: 1024,
        ..request.flavor.clone().unwrap()
    };
    request.flavor = Some(roomy.clone());
    let (spawned, _) = sandbox.spawn(request).await.unwrap();
    let id = &spawned.instance_id;
    assert_eq!(spawned.flavor.as_ref().unwrap().max_vcpus, 3);
    let mut shell = Shell::login(sandbox, id).await;
    let before = number(&mut shell, MEMORY).await;
    assert_eq!(number(&mut shell, "nproc").await, 1);

    let wanted = v1::Flavor {
        vcpus: 2,
        memory_mib: 256 + 128,
        ..roomy
    };
    let request = v1::ResizeRequest {
        instance_id: id.clone(),
        flavor: Some(wanted.clone()),
        mode: v1::ResizeMode::LiveOnly.into(),
        ..Default::default()
    };
    let answers = sandbox.instances().await.resize(request.clone()).await;
    let done: Result<_, Status> = finish!(answers, v1::resize_response::Event).await;
    let (grown, phases) = done.unwrap();
    assert!(!phases.contains(&Phase::Stop), "{phases:?}");
    assert_eq!(grown.flavor.unwrap(), wanted);
    assert_eq!(processors(sandbox, id).await, 2);
    // The guest takes them in its own time.
    let least = before + (120 << 10);
    let has = format!("[ $(nproc) = 2 ] && [ $({MEMORY}) -gt {least} ]");
    shell.run(&format!("until {has}; do sleep 0.1; done")).await;
    let answers = sandbox.instances().await.resize(request).await;
    let again: Result<_, Status> = finish!(answers, v1::resize_response::Event).await;
    assert_eq!(again.unwrap().1, [], "it is so already");

    // The next start has all of it from the begin.
    let request = v1::RebootRequest {
        instance_id: id.clone(),
        kind: v1::RebootKind::Hard.into(),
        ..Default::default()
    };
    let answers = sandbox.instances().await.reboot(request).await;
    let done: Result<_, Status> = finish!(answers, v1::reboot_response::Event).await;
    done.unwrap();
    let again = || async { (log(sandbox, id).await.matches(KERNEL).count() == 2).then_some(()) };
    until("the guest to boot again", again).await;
    let asked = v1::GetInfoRequest {
        instance_id: id.clone(),
    };
    let told = sandbox.instances().await.get_info(asked).await;
    let info = told.unwrap().into_inner().info.unwrap();
    assert_eq!((info.num_cpu, info.mem_kib), (2, (256 + 128) << 10));
    sandbox.destroy(id).await.unwrap();
    sandbox.assert_clean().await;
}

/// Prints what the guest's kernel counts, KiB.
const MEMORY: &str = "awk '/MemTotal/{print $2}' /proc/meminfo";

/// The number that a command prints in the guest.
async fn number(shell: &mut Shell, command: &str) -> u64 {
    let told = shell.run(&format!("echo number:$({command})")).await;
    let (_, last) = told.rsplit_once("number:").expect("it is printed");
    let digits: String = last.chars().take_while(char::is_ascii_digit).collect();
    digits
        .parse()
        .unwrap_or_else(|_| panic!("no number: {told}"))
}

async fn a_guest_is_made_anew_and_the_old_one_comes_back_when_the_new_does_not_boot(
    sandbox: &mut Sandbox,
) {
    let (spawned, _) = sandbox.spawn(guest_request(READY)).await.unwrap();
    let id = &spawned.instance_id;
    // It runs, and never says what is waited for.
    let silent = image(&guest().join("boot-sector.raw"), v1::DiskFormat::Raw);
    let late = remade(sandbox, rebuild(id, silent, ("never", 2))).await;
    let late = late.unwrap_err();
    assert_eq!(
        (late.code(), reason(&late)),
        (Code::DeadlineExceeded, "WAIT_TIMEOUT".to_owned())
    );
    assert_eq!(
        instance(sandbox, id).await.image.unwrap().image_id,
        "test-image"
    );
    let again = || async { (log(sandbox, id).await.matches(READY).count() == 2).then_some(()) };
    until("the old guest to boot again", again).await;
    assert_eq!(aside(sandbox, id), Vec::<PathBuf>::new());

    let request = rebuild(id, another(sandbox), (READY, 170));
    let (made, _) = remade(sandbox, request).await.unwrap();
    assert_eq!(made.instance_id, *id);
    let readies = log(sandbox, id).await.matches(READY).count();
    assert_eq!(readies, 3, "what older guests showed is not taken for it");
    assert_eq!(made.image.unwrap().image_id, "another");
    assert_eq!(made.metadata["role"], "db");
    assert_eq!(state(sandbox, id).await, PowerState::Running);
    assert_eq!(aside(sandbox, id), Vec::<PathBuf>::new());
    sandbox.destroy(id).await.unwrap();
    sandbox.assert_clean().await;
}

async fn a_crash_in_the_middle_leaves_the_instance_as_it_was(sandbox: &mut Sandbox) {
    let (spawned, _) = sandbox.spawn(guest_request(READY)).await.unwrap();
    let id = spawned.instance_id;
    let request = rebuild(&id, another(sandbox), ("never", 170));
    let mut answers = {
        let answers = sandbox.instances().await.rebuild(request).await;
        answers.unwrap().into_inner()
    };
    loop {
        use v1::rebuild_response::Event;
        let message = answers.message().await.unwrap().expect("it goes on");
        let Some(Event::Progress(told)) = message.event else {
            continue;
        };
        if told.phase() == Phase::Running {
            break;
        }
    }
    sandbox.kill();
    sandbox.launch();
    sandbox.ready().await;
    let found = instance(sandbox, &id).await;
    assert_eq!(found.image.unwrap().image_id, "test-image");
    assert_eq!(state(sandbox, &id).await, PowerState::Running);
    assert_eq!(aside(sandbox, &id), Vec::<PathBuf>::new());
    sandbox.destroy(&id).await.unwrap();
    sandbox.assert_clean().await;
}

/// Lets a resize begin, and kills the server where it tells of that phase for that time; answers whether it got there.
async fn cut(sandbox: &mut Sandbox, request: v1::ResizeRequest, nth: usize) -> bool {
    use v1::resize_response::Event;
    let answers = sandbox.instances().await.resize(request).await;
    let mut answers = answers.unwrap().into_inner();
    let mut told = 0;
    let reached = loop {
        match answers.message().await {
            Ok(Some(message)) => match message.event {
                Some(Event::Progress(_)) if told == nth => break true,
                Some(Event::Progress(_)) => told += 1,
                _ => {}
            },
            _ => break false,
        }
    };
    sandbox.kill();
    sandbox.launch();
    sandbox.ready().await;
    reached
}

#[tokio::test]
async fn a_resize_that_a_crash_cut_is_done_or_undone_and_says_which() {
    let mut sandbox = Sandbox::start(&["--set", "guests.shutdown_timeout=0s"]).await;
    let (spawned, _) = sandbox.spawn(request()).await.unwrap();
    let id = spawned.instance_id.clone();
    for (nth, root_gib) in (2..).enumerate() {
        let before = instance(&sandbox, &id).await.flavor.unwrap();
        let wanted = v1::Flavor {
            vcpus: 3 - before.vcpus,
            root_gib,
            ..before.clone()
        };
        let request = v1::ResizeRequest {
            instance_id: id.clone(),
            flavor: Some(wanted.clone()),
            mode: v1::ResizeMode::MayRestart.into(),
            ..Default::default()
        };
        let reached = cut(&mut sandbox, request, nth).await;
        let asked = v1::ListOperationsRequest {
            instance_id: id.clone(),
            page_size: 1,
            ..Default::default()
        };
        let newest = sandbox.operations().await.list_operations(asked).await;
        let newest = newest.unwrap().into_inner().operations.remove(0);
        let done = newest.state() == v1::OperationState::Succeeded;
        println!("cut at message {nth}: {}", newest.state().as_str_name());
        assert_eq!(newest.verb, "Resize");
        let is = instance(&sandbox, &id).await.flavor.unwrap();
        assert_eq!(is, if done { wanted } else { before });
        assert_eq!(state(&sandbox, &id).await, PowerState::Running);
        assert_eq!(processors(&sandbox, &id).await, is.vcpus);
        if !reached {
            assert!(nth > 8, "it told of {nth} things only");
            break;
        }
    }
    sandbox.destroy(&id).await.unwrap();
    sandbox.assert_clean().await;
}
