use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, time::Duration};

use pretty_assertions::assert_eq;

use super::{Config, Connect, CpuMode, Fault, Faults, Flag, Layers, Listen, LogFormat, Virt};
use crate::model::Bytes;

const EXAMPLE: &str = include_str!("../../../computelet.example.toml");

/// The example with every setting in force.
fn uncommented() -> String {
    let setting = |line: &str| {
        line.strip_prefix('#')
            .filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
            .unwrap_or(line)
            .to_owned()
    };
    EXAMPLE.lines().map(setting).collect::<Vec<_>>().join("\n")
}

fn of(text: &str) -> Result<Config, Faults> {
    Config::load(&Layers::default().text("test.toml", text))
}

fn faults(text: &str) -> Vec<String> {
    let Faults(faults) = of(text).expect_err("it is faulty");
    faults.iter().map(Fault::to_string).collect()
}

fn flag(flag: &'static str, key: &str, values: &[&str]) -> Flag {
    Flag {
        flag,
        key: key.to_owned(),
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    }
}

#[test]
fn the_example_loads_as_it_is_and_changes_nothing() {
    assert_eq!(of(EXAMPLE), of(""));
}

#[test]
fn the_example_uncommented_equals_the_defaults() {
    assert_eq!(of(&uncommented()), of(""));
}

#[test]
fn the_example_lists_every_key() {
    let mut listed = BTreeSet::new();
    let mut section = String::new();
    for line in uncommented().lines() {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            section = format!("{name}.");
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            listed.insert(format!("{section}{key}"));
        }
    }
    let known: BTreeSet<_> = Config::keys().into_iter().map(str::to_owned).collect();
    assert_eq!(listed, known);
}

#[test]
fn no_two_keys_share_a_variable() {
    let keys = Config::keys();
    let variables: BTreeSet<_> = keys.iter().map(|key| key.replace('.', "_")).collect();
    assert_eq!(variables.len(), keys.len());
}

#[test]
fn all_faults_are_told_at_once_with_key_value_and_what_is_right() {
    let told = faults(
        r#"
            listen = ["tcp:0.0.0.0:7070", "carrier-pigeon"]
            virt_type = "vmware"
            colour = "blue"
            [images]
            max_mib = -1
            fromat = "raw"
            [resources]
            cpu_allocation_ratio = 0.0
            [limits]
            operation_retention = 5
        "#,
    );
    let expected = [
        "listen = \"tcp:0.0.0.0:7070\" (test.toml): is refused: TLS does not exist yet",
        "listen = \"carrier-pigeon\" (test.toml): must be unix:PATH or tcp:ADDRESS:PORT",
        "virt_type = \"vmware\" (test.toml): must be one of auto, kvm, qemu",
        "images.max_mib = -1 (test.toml): must be a whole number, not below 0",
        "resources.cpu_allocation_ratio = 0.0 (test.toml): must be from 0.01 to 1000.0",
        "limits.operation_retention = 5 (test.toml): must be a length of time with its unit",
        "colour (test.toml): no such key; there are state_dir, listen,",
        "images.fromat (test.toml): no such key; there are images.max_mib, images.disks,",
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(expected), "{told}\nis not\n{expected}");
    }
}

#[test]
fn a_text_that_is_no_toml_is_told_with_its_line_beside_the_other_faults() {
    let layers = Layers::default()
        .text("broken.toml", "state_dir = \n")
        .flags([flag("--virt-type", "virt_type", &["xen"])]);
    let Faults(faults) = Config::load(&layers).expect_err("it is faulty");
    let told: Vec<_> = faults.iter().map(Fault::to_string).collect();
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(told[0].starts_with("broken.toml: is no TOML") && told[0].contains("line 1"));
    assert!(told[1].starts_with("virt_type = \"xen\" (--virt-type): must be one of"));
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let layers = Layers::default().file(Some(&PathBuf::from("/nonexistent/computelet.toml")));
    let told = Config::load(&layers).expect_err("it is faulty").to_string();
    assert!(
        told.contains("/nonexistent/computelet.toml: cannot be read"),
        "{told}"
    );
}

#[test]
fn flags_win_over_variables_and_variables_over_the_file() {
    let variables = [
        ("COMPUTELET_VIRT_TYPE", "kvm"),
        ("COMPUTELET_LIMITS_CALLS", "7"),
        ("COMPUTELET_IMAGES_FILE_DIRS", "/a,/b"),
        ("COMPUTELET_CONFIG", "not a key"),
        ("HOME", "/root"),
    ];
    let layers = Layers::default()
        .text(
            "test.toml",
            "virt_type = \"auto\"\n[limits]\ncalls = 5\nstreams = 6",
        )
        .variables(variables.map(|(name, value)| (name.to_owned(), value.to_owned())))
        .flags([
            flag("--virt-type", "virt_type", &["qemu"]),
            flag("--listen", "listen", &["tcp:127.0.0.1:0", "tcp:[::1]:7"]),
        ]);
    let config = Config::load(&layers).expect("it is right");
    assert_eq!(config.virt_type, Virt::Qemu);
    assert_eq!(config.limits.calls, 7);
    assert_eq!(config.limits.streams, 6);
    assert_eq!(config.images.file_dirs, ["/a", "/b"].map(PathBuf::from));
    let tcp = |text: &str| Listen::Tcp(text.parse::<SocketAddr>().unwrap());
    assert_eq!(config.listen, [tcp("127.0.0.1:0"), tcp("[::1]:7")]);
}

#[test]
fn an_unknown_variable_is_refused() {
    let layers = Layers::default().variables([("COMPUTELET_STATEDIR".to_owned(), "/x".to_owned())]);
    let told = Config::load(&layers).expect_err("it is faulty").to_string();
    assert!(
        told.contains("COMPUTELET_STATEDIR (environment): no such key"),
        "{told}"
    );
}

#[test]
fn paths_follow_the_state_directory_and_are_absolute() {
    let config = of("state_dir = \"/srv/vm\"").expect("it is right");
    assert_eq!(
        config.listen,
        [Listen::Unix("/srv/vm/computelet.sock".into())]
    );
    assert_eq!(config.images.file_dirs, [PathBuf::from("/srv/vm/import")]);
    let config = of("state_dir = \"here\"").expect("it is right");
    assert!(config.state_dir.is_absolute());
}

#[test]
fn a_socket_path_that_the_kernel_cannot_hold_is_refused() {
    let told = faults(&format!("state_dir = \"/{}\"", "x".repeat(100)));
    assert!(told[0].contains("at most 107 bytes"), "{told:?}");
}

#[test]
fn a_custom_processor_needs_a_model_and_no_other_mode_takes_one() {
    assert!(faults("[guests]\ncpu_mode = \"custom\"")[0].contains("must name a model"));
    assert!(faults("[guests]\ncpu_model = \"Nehalem\"")[0].contains("honoured only when"));
    let config = of("[guests]\ncpu_mode = \"custom\"\ncpu_model = \"Nehalem\"").expect("right");
    assert_eq!(config.guests.cpu_mode, CpuMode::Custom);
    assert_eq!(config.guests.cpu_model.as_deref(), Some("Nehalem"));
}

#[test]
fn values_are_read_with_their_units() {
    let config = of(r#"
            connect = "qemu:///system"
            my_ip = "192.0.2.7"
            drain_timeout = "1m 30s"
            [images]
            max_mib = 2
            [log]
            filter = "warn,computelet::serve=trace"
            format = "json"
        "#)
    .expect("it is right");
    assert!(matches!(&config.connect, Connect::Uri(uri) if uri.0 == "qemu:///system"));
    assert_eq!(config.my_ip, Some("192.0.2.7".parse().unwrap()));
    assert_eq!(config.drain_timeout, Duration::from_secs(90));
    assert_eq!(config.images.max, Bytes(2 << 20));
    assert_eq!(config.log.format, LogFormat::Json);
    assert!(faults("[log]\nfilter = \"a=b=c\"")[0].contains("must be a filter"));
}
