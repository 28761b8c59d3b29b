use Phase::{Bootloader, ConsolePattern, Firmware, Kernel, Userspace};
use proptest::prelude::{any, proptest};

use super::*;

/// A console's name, and what the last of the phases is that each piece shows.
type Console = (&'static str, &'static [(&'static str, Option<Phase>)]);

/// Consoles as real guests printed them, shortened.
const CONSOLES: &[Console] = &[
    (
        "Debian, SeaBIOS and GRUB",
        &[
            (
                "\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS (version 1.16.3-debian-1.16.3-2)\r\n",
                Some(Firmware),
            ),
            (
                "iPXE (http://ipxe.org) 00:02.0 CA00 PCI2.10 PnP PMM+06FD0FF0+06F30FF0 CA00\r\n",
                None,
            ),
            ("Booting from Hard Disk...\r\n", None),
            ("GRUB loading.\r\nWelcome to GRUB!\r\n", Some(Bootloader)),
            (
                "\x1b[0m\x1b[30m\x1b[47m  Booting `Debian GNU/Linux'\r\n",
                None,
            ),
            (
                "Loading Linux 6.1.0-18-cloud-amd64 ...\r\nLoading initial ramdisk ...\r\n",
                None,
            ),
            (
                "[    0.000000] Linux version 6.1.0-18-cloud-amd64 (debian-kernel@lists.debian.org)\r\n",
                Some(Kernel),
            ),
            (
                "[    0.000000] Command line: BOOT_IMAGE=/boot/vmlinuz console=ttyS0 systemd.unit=login:\r\n",
                None,
            ),
            (
                "[    0.402913] Booting paravirtualized kernel on KVM\r\n",
                None,
            ),
            (
                "[    1.183071] Freeing unused kernel image (initmem) memory: 2796K\r\n",
                Some(Userspace),
            ),
            ("[    1.201005] Run /init as init process\r\n", None),
        ],
    ),
    (
        "OVMF and systemd-boot, a quiet kernel",
        &[
            (
                "\x1b[2J\x1b[01;01H\x1b[=3hBdsDxe: starting Boot0001 \"UEFI Misc Device\"\r\n",
                Some(Firmware),
            ),
            ("\x1b[0msystemd-boot 254.5\r\n", Some(Bootloader)),
            (
                "EFI stub: Loaded initrd from LINUX_EFI_INITRD_MEDIA_GUID device path\r\n",
                Some(Kernel),
            ),
            (
                "\r\nWelcome to \x1b[0;34mFedora Linux 39 (Cloud Edition)\x1b[0m!\r\n",
                Some(Userspace),
            ),
        ],
    ),
    (
        "SYSLINUX and BusyBox, most of the kernel's log filtered",
        &[
            ("\r\n", Some(Firmware)),
            (
                "SYSLINUX 6.04 20210613 Copyright (C) 1994-2015 H. Peter Anvin et al\r\n",
                Some(Bootloader),
            ),
            (
                "Loading /vmlinuz... ok\r\nLoading /initrd.gz...ok\r\n",
                None,
            ),
            (
                "[    0.626344] APIC calibration not consistent with PM-Timer: 97ms instead of 100ms\r\n",
                Some(Kernel),
            ),
            (
                "[    2.560345] scsi 0:0:0:0: CD-ROM            QEMU     QEMU DVD-ROM     2.5+ PQ: 0\r\n",
                None,
            ),
            ("\r\r\ncomputelet-guest login: ", Some(Userspace)),
        ],
    ),
    (
        "an installer's menu does not welcome from user space",
        &[
            (
                "ISOLINUX 6.04 20200816 ETCD Copyright (C) 1994-2015\r\n",
                Some(Bootloader),
            ),
            (
                "Welcome to the installer\r\nPress F1 for help\r\nboot: ",
                None,
            ),
            (
                "Decompressing Linux... Parsing ELF... done.\r\nBooting the kernel.\r\n",
                Some(Kernel),
            ),
            ("INIT: version 2.96 booting\r\n", Some(Userspace)),
        ],
    ),
];

fn watch(pattern: &str) -> BootWatch {
    BootWatch::new(Some(pattern.parse().expect("a pattern")))
}

fn feed(watch: &mut BootWatch, bytes: &[u8]) -> Vec<Phase> {
    watch
        .feed(bytes)
        .into_iter()
        .map(|sight| sight.phase)
        .collect()
}

#[test]
fn the_line_that_showed_a_phase_is_told() {
    let mut watch = BootWatch::new(None);
    let seen = watch.feed(b"\x1b[0m[    0.000000] Linux version 6.1.0\r\nmore");
    assert_eq!(seen[1].line, "[    0.000000] Linux version 6.1.0");
}

fn pieces(console: &[u8], size: usize) -> Vec<Phase> {
    let mut watch = BootWatch::new(None);
    console
        .chunks(size)
        .flat_map(|c| feed(&mut watch, c))
        .collect()
}

#[test]
fn each_phase_is_told_at_the_line_that_shows_it() {
    for (name, lines) in CONSOLES {
        let mut watch = BootWatch::new(None);
        for (line, expected) in *lines {
            let seen = feed(&mut watch, line.as_bytes());
            let last = seen.last().copied();
            assert_eq!(last, *expected, "{name}: {line:?} showed {seen:?}");
        }
    }
}

#[test]
fn pieces_of_any_size_show_the_same_phases() {
    for (name, lines) in CONSOLES {
        let console: String = lines.iter().map(|(line, _)| *line).collect();
        let whole = pieces(console.as_bytes(), usize::MAX);
        assert!(whole.is_sorted() && whole.len() >= 3, "{name}: {whole:?}");
        for size in [1, 2, 3, 7, 64] {
            assert_eq!(pieces(console.as_bytes(), size), whole, "{name} by {size}");
        }
    }
}

#[test]
fn a_later_phase_implies_the_earlier_and_nothing_goes_back() {
    let mut watch = BootWatch::new(None);
    assert!(!watch.has_reached(Firmware));
    assert_eq!(feed(&mut watch, b"\0\0\0"), []);
    assert_eq!(feed(&mut watch, b"Linux version 6.1\n"), [Firmware, Kernel]);
    assert!(watch.has_reached(Bootloader) && !watch.has_reached(Userspace));
    assert_eq!(feed(&mut watch, b"GNU GRUB  version 2.06\n"), []);
    assert!(!watch.is_over());
    assert_eq!(feed(&mut watch, b"host login: "), [Userspace]);
    assert!(watch.is_over());
}

#[test]
fn the_callers_pattern_is_found_in_clean_lines_across_pieces() {
    let mut watch = watch(r"^READY \d+$");
    assert_eq!(feed(&mut watch, b"not READY 1\r\nRE\x1b[1"), [Firmware]);
    assert_eq!(feed(&mut watch, b";32mADY\x1b[0m\0 "), []);
    assert_eq!(feed(&mut watch, b"42"), [ConsolePattern]);
    assert_eq!(feed(&mut watch, b"\r\nREADY 43\r\n"), []);
    assert!(watch.has_reached(ConsolePattern) && !watch.is_over());
}

#[test]
fn bytes_that_are_no_text_can_be_looked_for() {
    let mut watch = watch(r"(?-u)\xff\xfe!");
    assert_eq!(feed(&mut watch, b"\xff\xfe"), [Firmware]);
    assert_eq!(feed(&mut watch, b"!"), [ConsolePattern]);
}

#[test]
fn patterns_that_say_nothing_or_too_much_are_refused() {
    for pattern in ["", "a*", "(", r"\w{1000}{1000}"] {
        let refused = pattern.parse::<Pattern>();
        assert!(refused.is_err(), "{pattern}");
    }
}

#[test]
fn a_guest_without_line_breaks_is_kept_within_bounds_and_still_watched() {
    let mut watch = watch("needle");
    for _ in 0..100 {
        feed(&mut watch, &[b'x'; 10_000]);
        assert!(watch.line.capacity() <= 2 * LINE_MAX);
    }
    assert_eq!(feed(&mut watch, b"xxnee"), []);
    assert_eq!(feed(&mut watch, b"dle"), [ConsolePattern]);
}

proptest! {
    #[test]
    fn no_bytes_confuse_it(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..20)) {
        let mut watch = watch("zzz+");
        let seen: Vec<Phase> = chunks.iter().flat_map(|c| feed(&mut watch, c)).collect();
        let boot: Vec<_> = seen.iter().filter(|p| **p != ConsolePattern).collect();
        assert!(boot.is_sorted(), "{seen:?}");
    }
}
