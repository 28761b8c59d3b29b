//! A processor, typed or as Nova writes it down.

use computedriver::v1;
use serde::Deserialize;

use super::fault::Faults;
use crate::{
    error::Error,
    model::{CpuModel, CpuTopology},
};

/// More features than any processor has.
const FEATURES: usize = 1024;
/// Nova's longest are some thousand bytes.
const NOVA: usize = 65_536;
/// The longest name of a model or feature.
const NAME: usize = 64;

/// Nova's `cpu_info`. Keys that are not named here are passed over.
#[derive(Debug, Deserialize)]
struct NovaCpu {
    arch: Option<String>,
    model: Option<String>,
    vendor: Option<String>,
    #[serde(default)]
    topology: NovaTopology,
    #[serde(default)]
    features: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NovaTopology {
    sockets: u32,
    cores: u32,
    threads: u32,
}

impl From<NovaCpu> for v1::CpuModel {
    fn from(nova: NovaCpu) -> Self {
        Self {
            architecture: nova.arch.unwrap_or_default(),
            model: nova.model.unwrap_or_default(),
            vendor: nova.vendor.unwrap_or_default(),
            sockets: nova.topology.sockets,
            cores: nova.topology.cores,
            threads: nova.topology.threads,
            features: nova.features,
            disabled_features: Vec::new(),
        }
    }
}

/// The processor that a comparison asks about.
pub(crate) fn cpu(request: v1::CompareCpuRequest) -> Result<CpuModel, Error> {
    let mut faults = Faults::default();
    let cpu = match (request.cpu, request.nova_cpu_info.as_str()) {
        (None, "") => {
            faults.wrong("cpu", "is required, or nova_cpu_info");
            None
        }
        (Some(cpu), "") => model(&mut faults, "cpu", cpu),
        (None, text) => nova(&mut faults, text),
        (Some(_), _) => {
            faults.wrong("nova_cpu_info", "must be empty when cpu is there");
            None
        }
    };
    faults.into_result(|| cpu)
}

fn nova(faults: &mut Faults, text: &str) -> Option<CpuModel> {
    const FIELD: &str = "nova_cpu_info";
    if text.len() > NOVA {
        faults.wrong(FIELD, format_args!("must have at most {NOVA} bytes"));
        return None;
    }
    let read = serde_json::from_str::<NovaCpu>(text);
    let read = read.map_err(|e| format!("must be Nova's cpu_info in JSON: {e}"));
    let cpu = faults.take(FIELD, read)?;
    model(faults, FIELD, cpu.into())
}

fn model(faults: &mut Faults, field: &str, cpu: v1::CpuModel) -> Option<CpuModel> {
    let at = |part: &str| format!("{field}.{part}");
    let architecture = name(faults, &at("architecture"), cpu.architecture);
    let model = name(faults, &at("model"), cpu.model);
    let vendor = match cpu.vendor {
        vendor if vendor.is_empty() => Some(None),
        vendor => name(faults, &at("vendor"), vendor).map(Some),
    };
    let features = names(faults, &at("features"), cpu.features);
    let disabled = names(faults, &at("disabled_features"), cpu.disabled_features);
    Some(CpuModel {
        architecture: architecture?,
        model: model?,
        vendor: vendor?,
        topology: CpuTopology {
            sockets: cpu.sockets,
            cores: cpu.cores,
            threads: cpu.threads,
        },
        features: features?,
        disabled: disabled?,
    })
}

fn names(faults: &mut Faults, field: &str, all: Vec<String>) -> Option<Vec<String>> {
    faults.at_most(field, all.len(), FEATURES);
    let all = all.into_iter().take(FEATURES).enumerate();
    let all: Vec<_> = all
        .map(|(at, text)| name(faults, &format!("{field}[{at}]"), text))
        .collect();
    all.into_iter().collect()
}

/// A name as libvirt's map of processors has them.
fn name(faults: &mut Faults, field: &str, text: String) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    if text.is_empty() {
        faults.wrong(field, "is required");
    } else if text.len() > NAME || !text.chars().all(plain) {
        let right =
            format!("must be at most {NAME} characters of a-z, A-Z, 0-9, '.', '_', '+', '-'");
        faults.wrong(field, right);
    } else {
        return Some(text);
    }
    None
}

/// A processor as it is told.
pub(crate) fn cpu_out(cpu: CpuModel) -> v1::CpuModel {
    v1::CpuModel {
        architecture: cpu.architecture,
        model: cpu.model,
        vendor: cpu.vendor.unwrap_or_default(),
        sockets: cpu.topology.sockets,
        cores: cpu.topology.cores,
        threads: cpu.topology.threads,
        features: cpu.features,
        disabled_features: cpu.disabled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(request: v1::CompareCpuRequest) -> Vec<String> {
        let e = cpu(request).unwrap_err();
        let told = e.details().violations.iter();
        told.map(|violation| violation.field.clone()).collect()
    }

    #[test]
    fn novas_words_are_the_typed_ones() {
        let nova = r#"{"arch": "x86_64", "model": "Nehalem", "vendor": "Intel",
            "topology": {"cells": 1, "sockets": 1, "cores": 4, "threads": 2}, "features": ["aes", "sse4.2"]}"#;
        let typed = v1::CpuModel {
            architecture: "x86_64".to_owned(),
            model: "Nehalem".to_owned(),
            vendor: "Intel".to_owned(),
            sockets: 1,
            cores: 4,
            threads: 2,
            features: vec!["aes".to_owned(), "sse4.2".to_owned()],
            disabled_features: Vec::new(),
        };
        let asked = v1::CompareCpuRequest {
            nova_cpu_info: nova.to_owned(),
            ..Default::default()
        };
        let read = cpu(asked).unwrap();
        assert_eq!(cpu_out(read), typed);
        let short = r#"{"arch": "x86_64", "model": "Nehalem", "vendor": null}"#;
        let asked = v1::CompareCpuRequest {
            nova_cpu_info: short.to_owned(),
            ..Default::default()
        };
        assert_eq!(cpu(asked).unwrap().vendor, None);
    }

    #[test]
    fn every_fault_is_told() {
        let asked = v1::CpuModel {
            model: "<evil/>".to_owned(),
            features: vec!["aes".to_owned(), String::new()],
            ..Default::default()
        };
        let asked = v1::CompareCpuRequest {
            cpu: Some(asked),
            ..Default::default()
        };
        assert_eq!(
            faults(asked.clone()),
            ["cpu.architecture", "cpu.model", "cpu.features[1]"]
        );
        let both = v1::CompareCpuRequest {
            nova_cpu_info: "{}".to_owned(),
            ..asked
        };
        assert_eq!(faults(both), ["nova_cpu_info"]);
        assert_eq!(faults(v1::CompareCpuRequest::default()), ["cpu"]);
        for bad in ["[]", "{\"features\": [1]}", "no"] {
            let asked = v1::CompareCpuRequest {
                nova_cpu_info: bad.to_owned(),
                ..Default::default()
            };
            assert_eq!(faults(asked), ["nova_cpu_info"], "{bad}");
        }
    }
}
