//! The words by which boot loaders, kernels and first processes are known.

use std::sync::LazyLock;

use regex::bytes::Regex;

use crate::model::Phase;

/// "Booting from Hard Disk…" is SeaBIOS still.
const BOOTLOADER: &[&str] = &[
    r"GNU GRUB",
    r"Welcome to GRUB",
    r"GRUB loading",
    r"^\s*grub(?: rescue)?> ",
    r"\b(?:SYS|ISO|PXE|EXT)LINUX \d",
    r"\bsystemd-boot\b",
    r"^\s*Boot in \d+ s",
    r"^\s*Booting (?:[`'\x22]|a command list|kernel)",
    r"^\s*Loading (?:Linux|initial ramdisk|kernel|/?(?:boot/)?vmlinuz|/?(?:boot/)?initr)",
    r"FreeBSD/\S+ (?:EFI|bootstrap) loader",
];

/// A kernel's own stamp is enough, whatever it says.
const KERNEL: &[&str] = &[
    r"Linux version \d",
    r"^\s*(?:<\d+>)?\[ *\d+\.\d{6}\]",
    r"Decompressing Linux",
    r"^\s*Booting the kernel",
    r"early console in extract_kernel",
    r"^\s*EFI stub:",
    r"---<<BOOT>>---",
    r"The FreeBSD Project\.",
];

/// The kernel's last words before its first process count as well.
const USERSPACE: &[&str] = &[
    r"\bRun \S+ as init process",
    r"Freeing unused kernel (?:image|memory)",
    r"\bsystemd\[1\]: ",
    r"^\s*Welcome to (?:[^G\s].*|G[^R].*)!$",
    r"\bINIT: version ",
    r"\bOpenRC \d",
    r"init started: BusyBox",
    r"^BusyBox v\d",
    r"^Begin: (?:Loading|Running|Mounting)",
    r"\bcloud-init\[\d+\]:",
    r"^Cloud-init v",
    r"(?:^|\s)login: ?$",
];

/// Latest phase first: the first one that matches is where the guest is.
static PHASES: LazyLock<[(Phase, Regex); 3]> = LazyLock::new(|| {
    [
        (Phase::Userspace, any_of(USERSPACE)),
        (Phase::Kernel, any_of(KERNEL)),
        (Phase::Bootloader, any_of(BOOTLOADER)),
    ]
});

fn any_of(words: &[&str]) -> Regex {
    // Word boundaries of Unicode would send lines that are not ASCII down the slow path.
    Regex::new(&format!("(?-u){}", words.join("|"))).expect("a constant, compiled by every test")
}

/// The phase that `line` shows, when it lies beyond `reached`.
pub(super) fn phase(line: &[u8], reached: Option<Phase>) -> Option<Phase> {
    PHASES
        .iter()
        .take_while(|(phase, _)| reached < Some(*phase))
        .find(|(_, words)| words.is_match(line))
        .map(|(phase, _)| *phase)
}
