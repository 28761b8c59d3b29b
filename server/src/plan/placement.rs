//! What a placement service is told of the host: traits by the names of OpenStack's os-traits.

/// Features by libvirt's names, and the traits that follow from them. Two of the traits have an older, general name too.
const FEATURES: &[(&str, &[&str])] = &[
    ("3dnow", &["3DNOW"]),
    ("abm", &["ABM"]),
    ("aes", &["AESNI"]),
    ("amd-no-ssb", &["AMD_NO_SSB"]),
    ("amd-ssbd", &["AMD_SSBD"]),
    ("amx-bf16", &["AMXBF16"]),
    ("amx-int8", &["AMXINT8"]),
    ("amx-tile", &["AMXTILE"]),
    ("avx", &["AVX"]),
    ("avx2", &["AVX2"]),
    ("avx512-vpopcntdq", &["AVX512VPOPCNTDQ"]),
    ("avx512bitalg", &["AVX512BITALG"]),
    ("avx512bw", &["AVX512BW"]),
    ("avx512cd", &["AVX512CD"]),
    ("avx512dq", &["AVX512DQ"]),
    ("avx512er", &["AVX512ER"]),
    ("avx512f", &["AVX512F"]),
    ("avx512ifma", &["AVX512IFMA"]),
    ("avx512pf", &["AVX512PF"]),
    ("avx512vbmi", &["AVX512VBMI"]),
    ("avx512vbmi2", &["AVX512VBMI2"]),
    ("avx512vl", &["AVX512VL"]),
    ("avx512vnni", &["AVX512VNNI"]),
    ("bmi1", &["BMI"]),
    ("bmi2", &["BMI2"]),
    ("f16c", &["F16C"]),
    ("fma", &["FMA3"]),
    ("fma4", &["FMA4"]),
    ("gfni", &["AVX512GFNI"]),
    ("ibpb", &["AMD_IBPB"]),
    ("md-clear", &["INTEL_MD_CLEAR"]),
    ("mmx", &["MMX"]),
    ("mpx", &["MPX"]),
    ("pclmuldq", &["CLMUL"]),
    ("pdpe1gb", &["PDPE1GB"]),
    ("pni", &["SSE3"]),
    ("rtm", &["TSX"]),
    ("sgx", &["SGX"]),
    ("sha-ni", &["SHA"]),
    ("spec-ctrl", &["INTEL_SPEC_CTRL"]),
    ("ssbd", &["INTEL_SSBD"]),
    ("sse", &["SSE"]),
    ("sse2", &["SSE2"]),
    ("sse4.1", &["SSE41"]),
    ("sse4.2", &["SSE42"]),
    ("sse4a", &["SSE4A"]),
    ("ssse3", &["SSSE3"]),
    ("stibp", &["STIBP"]),
    ("svm", &["SVM", "AMD_SVM"]),
    ("tbm", &["TBM"]),
    ("vaes", &["AVX512VAES"]),
    ("virt-ssbd", &["AMD_VIRT_SSBD"]),
    ("vmx", &["VMX", "INTEL_VMX"]),
    ("vpclmulqdq", &["AVX512VPCLMULQDQ"]),
    ("xop", &["XOP"]),
];

/// Features that there are without AVX-512 too, though their traits are named after it.
const WIDE: [&str; 3] = ["gfni", "vaes", "vpclmulqdq"];

/// The traits of a processor that has these features, in order.
pub fn cpu_traits(features: &[String]) -> Vec<String> {
    let has = |name: &str| features.iter().any(|feature| feature == name);
    let there = FEATURES
        .iter()
        .filter(|(name, _)| has(name) && (!WIDE.contains(name) || has("avx512f")));
    let names = there.flat_map(|(_, names)| *names);
    let mut traits: Vec<_> = names.map(|name| format!("HW_CPU_X86_{name}")).collect();
    traits.sort_unstable();
    traits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(features: &[&str]) -> Vec<String> {
        let features: Vec<_> = features.iter().map(|name| (*name).to_owned()).collect();
        cpu_traits(&features)
    }

    #[test]
    fn features_become_traits_and_unknown_ones_nothing() {
        assert_eq!(
            of(&["sse4.2", "pni", "x2apic", "svm"]),
            [
                "HW_CPU_X86_AMD_SVM",
                "HW_CPU_X86_SSE3",
                "HW_CPU_X86_SSE42",
                "HW_CPU_X86_SVM"
            ]
        );
    }

    #[test]
    fn a_trait_named_after_avx512_takes_avx512() {
        assert_eq!(of(&["vaes", "gfni"]), Vec::<String>::new());
        assert!(of(&["vaes", "avx512f"]).contains(&"HW_CPU_X86_AVX512VAES".to_owned()));
    }

    #[test]
    fn every_trait_is_one_of_os_traits() {
        let standard = include_str!("../../../tests/golden/os-traits.txt");
        let all: Vec<_> = FEATURES.iter().map(|(name, _)| *name).collect();
        for name in of(&all) {
            assert!(standard.lines().any(|line| line == name), "{name}");
        }
    }

    #[test]
    fn every_feature_is_one_of_libvirts() {
        // The map is there wherever libvirt is; what it calls a feature changes never.
        let Ok(map) = std::fs::read_to_string("/usr/share/libvirt/cpu_map/x86_features.xml") else {
            return;
        };
        for (name, _) in FEATURES {
            assert!(map.contains(&format!("'{name}'")), "{name}");
        }
    }
}
