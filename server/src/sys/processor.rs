//! The processor of this host.

/// Whether it can run guests itself. On some nested hosts `/dev/kvm` opens and libvirt offers KVM, but guests hang in it:
/// there the processor shows neither of these flags.
pub fn has_hardware_virtualisation() -> bool {
    if !cfg!(target_arch = "x86_64") {
        return true;
    }
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut flags = flags.lines().filter(|line| line.starts_with("flags"));
    flags.any(|line| {
        line.split_ascii_whitespace()
            .any(|flag| matches!(flag, "vmx" | "svm"))
    })
}
