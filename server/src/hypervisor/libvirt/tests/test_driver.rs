//! The mapping, on libvirt's test driver: each test has a world of its own, from a description file.

use super::*;
use crate::hypervisor::{power::Power as _, secret::Secrets as _};

/// libvirt's world with some domains in it.
struct World {
    libvirt: Arc<Libvirt>,
    _file: tempfile::TempDir,
}

async fn world(domains: &str) -> World {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.xml");
    std::fs::write(&file, format!("<node>{domains}</node>")).unwrap();
    let connect = ConnectTo::Uri(format!("test://{}", file.display()));
    World {
        libvirt: up(LibvirtSettings::new(connect)).await,
        _file: dir,
    }
}

fn ours(id: InstanceId) -> String {
    domain(id, VirtType::Test).to_xml()
}

/// The same without our mark.
fn unmarked(id: InstanceId) -> String {
    let xml = ours(id);
    let (head, rest) = xml.split_once("<metadata>").unwrap();
    let (_, tail) = rest.split_once("</metadata>").unwrap();
    format!("{head}{tail}")
}

/// The same under another name.
fn renamed(id: InstanceId) -> String {
    ours(id).replace(&Domain::name_of(id), "a-clone")
}

async fn defined(libvirt: &Libvirt) -> InstanceId {
    let id = InstanceId::random();
    libvirt.define(&domain(id, VirtType::Test)).await.unwrap();
    id
}

async fn listed(libvirt: &Libvirt) -> Vec<InstanceId> {
    let listed = libvirt.list().await.unwrap();
    listed.into_iter().map(|(id, _)| id).collect()
}

#[tokio::test]
async fn a_guest_lives_and_goes() {
    let world = world("").await;
    let libvirt = &world.libvirt;
    let id = defined(libvirt).await;
    assert_eq!(libvirt.info(id).await.unwrap().state, PowerState::Shutdown);
    libvirt.start(id, StartMode::Running).await.unwrap();
    libvirt.start(id, StartMode::Running).await.unwrap();
    let signal = signalled(libvirt, id, PowerState::Running).await;
    assert_eq!(signal.reason, Some("booted"));
    let info = libvirt.info(id).await.unwrap();
    assert_eq!((info.state, info.num_cpu), (PowerState::Running, 1));
    assert_eq!((info.max_mem_kib, info.mem_kib), (16 << 10, 16 << 10));
    assert_eq!(listed(libvirt).await, [id]);
    let refused = libvirt.undefine(id).await;
    assert!(
        matches!(refused, Err(HypervisorError::State { .. })),
        "{refused:?}"
    );
    libvirt.destroy(id).await.unwrap();
    libvirt.destroy(id).await.unwrap();
    let signal = signalled(libvirt, id, PowerState::Shutdown).await;
    assert_eq!(signal.reason, Some("destroyed"));
    libvirt.undefine(id).await.unwrap();
    libvirt.undefine(id).await.unwrap();
    let absent = libvirt.info(id).await;
    assert!(
        matches!(absent, Err(HypervisorError::NotFound(_))),
        "{absent:?}"
    );
    assert_eq!(listed(libvirt).await, []);
}

#[tokio::test]
async fn a_guest_of_ours_may_be_defined_again() {
    let world = world("").await;
    let id = defined(&world.libvirt).await;
    world
        .libvirt
        .define(&domain(id, VirtType::Test))
        .await
        .unwrap();
    assert_eq!(listed(&world.libvirt).await, [id]);
}

#[tokio::test]
async fn a_guest_started_paused_waits_to_be_resumed() {
    let world = world("").await;
    let libvirt = &world.libvirt;
    let id = defined(libvirt).await;
    let refused = libvirt.resume(id).await;
    assert!(
        matches!(refused, Err(HypervisorError::State { .. })),
        "{refused:?}"
    );
    libvirt.start(id, StartMode::Paused).await.unwrap();
    assert_eq!(libvirt.info(id).await.unwrap().state, PowerState::Paused);
    libvirt.resume(id).await.unwrap();
    libvirt.resume(id).await.unwrap();
    assert_eq!(libvirt.info(id).await.unwrap().state, PowerState::Running);
}

#[tokio::test]
async fn a_domain_that_is_not_ours_counts_as_absent_and_is_not_written_over() {
    for foreign in [unmarked, renamed] {
        let id = InstanceId::random();
        let world = world(&foreign(id)).await;
        let libvirt = &world.libvirt;
        assert_eq!(listed(libvirt).await, []);
        let absent = libvirt.info(id).await;
        assert!(
            matches!(absent, Err(HypervisorError::NotFound(_))),
            "{absent:?}"
        );
        let absent = libvirt.start(id, StartMode::Running).await;
        assert!(
            matches!(absent, Err(HypervisorError::NotFound(_))),
            "{absent:?}"
        );
        let refused = libvirt.define(&domain(id, VirtType::Test)).await;
        assert!(
            matches!(refused, Err(HypervisorError::Foreign(_))),
            "{refused:?}"
        );
        libvirt.destroy(id).await.unwrap();
        libvirt.undefine(id).await.unwrap();
        let call = Call::of(Kind::Cheap, "virDomainIsActive", id);
        let active =
            move |conn: &Connect| Ok(conn.lookup_domain_by_uuid(id.uuid())?.is_active()?);
        assert!(libvirt.call(call, active).await.unwrap(), "it still runs");
    }
}

#[tokio::test]
async fn a_name_that_is_anothers_is_refused() {
    let (other, id) = (InstanceId::random(), InstanceId::random());
    let world =
        world(&unmarked(other).replace(&Domain::name_of(other), &Domain::name_of(id))).await;
    let refused = world.libvirt.define(&domain(id, VirtType::Test)).await;
    assert!(
        matches!(refused, Err(HypervisorError::Foreign(of)) if of == id),
        "{refused:?}"
    );
}

#[tokio::test]
async fn what_the_hypervisor_is_gets_read() {
    let world = world("").await;
    let found = world.libvirt.capabilities().await.unwrap();
    println!("{found:#?}");
    assert_eq!(
        (found.driver.as_str(), found.virt_type),
        ("TEST", VirtType::Test)
    );
    assert!(found.cpus > 0 && found.memory > 0);
}

#[tokio::test]
async fn guests_that_run_already_are_told_when_the_link_comes_up() {
    let id = InstanceId::random();
    let world = world(&ours(id)).await;
    let signal = world.libvirt.signals(id).borrow().clone();
    let expected = (Some(PowerState::Running), Some("observed"));
    assert_eq!((signal.state, signal.reason), expected);
}

#[tokio::test]
async fn a_libvirt_that_is_not_there_is_told_and_calls_fail_at_once() {
    let uri = "qemu+unix:///system?socket=/nonexistent/libvirt-sock";
    let libvirt = Libvirt::open(LibvirtSettings::new(ConnectTo::Uri(uri.to_owned()))).unwrap();
    let mut link = libvirt.link();
    within(link.wait_for(|link| matches!(link, Link::Down { .. })))
        .await
        .unwrap();
    let refused = libvirt.info(InstanceId::random()).await;
    assert!(
        matches!(refused, Err(HypervisorError::Unavailable { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_call_that_runs_over_its_limit_is_told_and_the_next_ones_are_served() {
    let mut settings = LibvirtSettings::new(ConnectTo::Uri("test:///default".to_owned()));
    settings.call_timeout = Duration::from_millis(200);
    let libvirt = up(settings).await;
    let (_hang, hung) = std::sync::mpsc::channel::<()>();
    let hung = Arc::new(parking_lot::Mutex::new(hung));
    let call = Call::plain(Kind::Cheap, "hang");
    for _ in 0..CHEAP.workers {
        let hung = hung.clone();
        let answer = libvirt
            .call(call, move |_| Ok(hung.lock().recv().is_err()))
            .await;
        assert!(
            matches!(answer, Err(HypervisorError::Timeout { call: "hang", .. })),
            "{answer:?}"
        );
    }
    libvirt.call(call, |_| Ok(())).await.unwrap();
}

#[tokio::test]
async fn a_call_that_panics_costs_itself_only() {
    let libvirt = up(LibvirtSettings::new(ConnectTo::Uri(
        "test:///default".to_owned(),
    )))
    .await;
    let call = Call::plain(Kind::Cheap, "panic");
    for _ in 0..=CHEAP.workers {
        let answer: Result<()> = libvirt.call(call, |_| panic!("as virt does")).await;
        assert!(
            matches!(answer, Err(HypervisorError::Failed { call: "panic", .. })),
            "{answer:?}"
        );
    }
    libvirt.list().await.unwrap();
}

#[tokio::test]
async fn what_the_host_counts_is_told_of_all_our_guests_and_no_other() {
    let (on, off, foreign) = (
        InstanceId::random(),
        InstanceId::random(),
        InstanceId::random(),
    );
    let world = world(&[ours(on), unmarked(foreign)].concat()).await;
    let libvirt = &world.libvirt;
    libvirt.define(&domain(off, VirtType::Test)).await.unwrap();
    let all = Groups::HOST;
    let mut counted = libvirt.host_counters(all).await.unwrap();
    counted.sort_by_key(|guest| guest.id != on);
    let [first, second] = &counted[..] else {
        panic!("{counted:?}");
    };
    assert_eq!((first.id, first.state), (on, PowerState::Running));
    assert_ne!(first.life, 0);
    assert!(first.cpu_time_ns.is_some(), "{first:?}");
    assert_eq!(first.memory.unwrap().maximum_kib, 16 << 10);
    assert_eq!((second.id, second.state), (off, PowerState::Shutdown));
    assert_eq!((second.life, second.cpu_time_ns), (0, None));
    assert_eq!(&libvirt.host_counters_of(off, all).await.unwrap(), second);
    for (id, counted) in [
        (foreign, libvirt.host_counters_of(foreign, all).await),
        (
            off,
            libvirt
                .monitor_counters(off, Groups::MONITOR)
                .await
                .map(|_| second.clone()),
        ),
    ] {
        println!("{id}: {counted:?}");
        match counted {
            Err(HypervisorError::NotFound(_)) => assert_eq!(id, foreign),
            Err(HypervisorError::State { .. }) => assert_eq!(id, off),
            answered => panic!("{answered:?}"),
        }
    }
    let groups = Groups::INTERFACE;
    let cheap = libvirt.host_counters(groups).await.unwrap();
    let silent = |guest: &HostCounters| guest.cpu_time_ns.is_none() && guest.memory.is_none();
    assert!(cheap.iter().all(silent), "not asked for: {cheap:?}");
}

#[tokio::test]
async fn a_guest_that_is_started_again_lives_another_life() {
    let world = world("").await;
    let libvirt = &world.libvirt;
    let id = defined(libvirt).await;
    let mut lives = Vec::new();
    for _ in 0..2 {
        libvirt.start(id, StartMode::Running).await.unwrap();
        lives.push(
            libvirt
                .host_counters_of(id, Groups::CPU)
                .await
                .unwrap()
                .life,
        );
        libvirt.destroy(id).await.unwrap();
        let off = libvirt.host_counters_of(id, Groups::CPU).await.unwrap();
        assert_eq!(off.life, 0);
    }
    assert!(!lives.contains(&0) && lives[0] != lives[1], "{lives:?}");
}

/// KiB that this process holds.
fn held() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * u64::try_from(rustix::param::page_size()).unwrap() / 1024
}

#[tokio::test]
async fn what_libvirt_answers_in_bulk_is_given_back() {
    const GUESTS: u64 = 100;
    const ROUNDS: u64 = 1000;
    let guests: String = (0..GUESTS).map(|_| ours(InstanceId::random())).collect();
    let world = world(&guests).await;
    let libvirt = &world.libvirt;
    let count = || async {
        libvirt
            .host_counters(Groups::INTERFACE)
            .await
            .unwrap()
            .len()
    };
    for _ in 0..100 {
        assert_eq!(count().await, 100);
    }
    let before = held();
    for _ in 0..ROUNDS {
        count().await;
    }
    let grown = held().saturating_sub(before);
    // A record with two values and its domain takes some 330 bytes.
    let kept = GUESTS * ROUNDS * 330 / 1024;
    println!("{grown} KiB more, {kept} if all were kept");
    assert!(grown < kept / 4, "{grown} KiB more");
}

#[tokio::test]
async fn a_driver_that_gives_guests_no_processor_says_so() {
    use crate::hypervisor::Node;
    let world = world("").await;
    let libvirt = &world.libvirt;
    let unsupported = |e| matches!(e, HypervisorError::Unsupported { .. });
    assert!(unsupported(libvirt.cpu().await.unwrap_err()));
    assert!(unsupported(libvirt.cpu_features(None).await.unwrap_err()));
    let any = crate::model::CpuModel::default();
    assert!(unsupported(libvirt.compare_cpu(any).await.unwrap_err()));
    assert!(libvirt.cpu_times().await.unwrap().user > 0);
}

#[tokio::test]
async fn a_driver_that_keeps_no_secrets_says_so_and_is_believed() {
    let world = world("").await;
    assert!(!world.libvirt.keeps_secrets().await.unwrap());
    assert_eq!(world.libvirt.kept_secrets().await.unwrap(), []);
}
