//! The host's processor through libvirt.
//!
//! What counts is what guests can be given, not what the host has: under QEMU's translator they are given less, and a
//! scheduler that believed in the rest would be wrong. libvirt calls that `host-model`.

use async_trait::async_trait;
use virt::{
    connect::Connect,
    error::{Error as VirtError, ErrorDomain, ErrorNumber},
    sys,
};

use super::{
    Call, Kind, Libvirt,
    capability::ARCH,
    fault::Fault,
    ffi,
    xml::{Element, NotXml},
};
use crate::{
    hypervisor::{HypervisorError, Node, Result},
    model::{CpuFit, CpuModel, CpuTimes, CpuTopology, VirtType},
};

/// The board whose limits hold for guests.
const BOARD: &str = "q35";

/// libvirt's word for what guests run on.
fn word(virt: VirtType) -> &'static str {
    match virt {
        VirtType::Kvm => "kvm",
        VirtType::Qemu => "qemu",
        VirtType::Test => "test",
    }
}

fn unreadable(e: &NotXml) -> Fault {
    HypervisorError::Failed {
        call: "virConnectGetDomainCapabilities",
        message: e.to_string(),
        code: 0,
        domain: 0,
    }
    .into()
}

fn untold(message: &str) -> Fault {
    HypervisorError::Unsupported {
        message: message.to_owned(),
    }
    .into()
}

/// What it offers to guests of ours.
fn offer(conn: &Connect, virt: VirtType) -> Result<Element, Fault> {
    if virt == VirtType::Test {
        return Err(untold("the test driver gives guests no processor"));
    }
    let text = conn.domain_capabilities(None, Some(ARCH), Some(BOARD), Some(word(virt)), 0)?;
    Element::parse(&text).map_err(|e| unreadable(&e))
}

/// The parts of the host's own processor; newer kinds of part count as cores.
fn topology(conn: &Connect) -> Result<CpuTopology, Fault> {
    let host = Element::parse(&conn.capabilities()?).map_err(|e| unreadable(&e))?;
    let Some(told) = host.first(&["host", "cpu", "topology"]) else {
        return Ok(CpuTopology::default());
    };
    let part = |name: &str| {
        told.attribute(name)
            .map_or(1, |count| count.parse().unwrap_or(1))
    };
    Ok(CpuTopology {
        sockets: part("sockets"),
        cores: part("dies") * part("clusters") * part("cores"),
        threads: part("threads"),
    })
}

fn model(offer: &Element) -> Result<CpuModel, Fault> {
    let mut modes = offer.all(&["cpu", "mode"]);
    let best = modes.find(|mode| {
        mode.attribute("name") == Some("host-model") && mode.attribute("supported") == Some("yes")
    });
    let best = best.ok_or_else(|| untold("it names no model of its processor"))?;
    let text = |name: &str| {
        best.first(&[name])
            .map(|element| element.text().to_owned())
            .filter(|text| !text.is_empty())
    };
    let named = |policy: &str| {
        let features = best.all(&["feature"]);
        let features = features.filter(|feature| feature.attribute("policy") == Some(policy));
        let names = features.filter_map(|feature| feature.attribute("name"));
        names.map(str::to_owned).collect()
    };
    Ok(CpuModel {
        architecture: ARCH.to_owned(),
        model: text("model").ok_or_else(|| untold("it names no model of its processor"))?,
        vendor: text("vendor"),
        topology: CpuTopology::default(),
        features: named("require"),
        disabled: named("disable"),
    })
}

fn cpu(conn: &Connect, virt: VirtType) -> Result<CpuModel, Fault> {
    let best = model(&offer(conn, virt)?)?;
    Ok(CpuModel {
        topology: topology(conn)?,
        ..best
    })
}

/// A feature a line, as `<feature … name='avx'/>`; the names are our own or were checked, and are escaped all the same.
fn listed(features: &[String], policy: &str) -> String {
    let one = |name: &String| {
        let name = quick_xml::escape::escape(name.as_str());
        format!("<feature {policy}name='{name}'/>")
    };
    features.iter().map(one).collect()
}

fn vendor(cpu: &CpuModel) -> String {
    cpu.vendor.as_deref().map_or_else(String::new, |vendor| {
        format!("<vendor>{}</vendor>", quick_xml::escape::escape(vendor))
    })
}

/// All features of a processor: those of its model, expanded by libvirt, and its own.
fn features(conn: &Connect, virt: VirtType, model: Option<String>) -> Result<Vec<String>, Fault> {
    let cpu = match model {
        Some(model) => CpuModel {
            model,
            ..CpuModel::default()
        },
        None => self::model(&offer(conn, virt)?)?,
    };
    let (name, own) = (
        quick_xml::escape::escape(cpu.model.as_str()),
        listed(&cpu.features, ""),
    );
    let vendor = vendor(&cpu);
    let xml = format!("<cpu><arch>{ARCH}</arch><model>{name}</model>{vendor}{own}</cpu>");
    let all = conn.baseline_cpu(&[&xml], sys::VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES)?;
    let all = Element::parse(&all).map_err(|e| unreadable(&e))?;
    let required = all
        .all(&["feature"])
        .filter(|feature| feature.attribute("policy") != Some("disable"));
    let names = required.filter_map(|feature| feature.attribute("name"));
    let names = names.filter(|name| !cpu.disabled.iter().any(|without| without == name));
    Ok(names.map(str::to_owned).collect())
}

fn compare(conn: &Connect, virt: VirtType, cpu: &CpuModel) -> Result<CpuFit, Fault> {
    let lacking = |why: String| Ok(CpuFit::Lacking { why });
    let offer = offer(conn, virt)?;
    if cpu.architecture != ARCH {
        return lacking(format!("guests here are {ARCH}"));
    }
    let most = offer
        .first(&["vcpu"])
        .and_then(|vcpu| vcpu.attribute("max")?.parse::<u64>().ok());
    if let Some(most) = most.filter(|most| cpu.topology.processors() > *most) {
        return lacking(format!("a guest here has at most {most} virtual CPUs"));
    }
    let name = quick_xml::escape::escape(cpu.model.as_str());
    let vendor = vendor(cpu);
    let more = listed(&cpu.features, "policy='require' ");
    let less = listed(&cpu.disabled, "policy='disable' ");
    let xml = format!(
        "<cpu mode='custom' match='exact'><model fallback='forbid'>{name}</model>{vendor}{more}{less}</cpu>"
    );
    match ffi::compare_hypervisor_cpu(conn, ARCH, word(virt), &xml) {
        Ok(sys::VIR_CPU_COMPARE_IDENTICAL) if cpu.topology.is_of(topology(conn)?) => {
            Ok(CpuFit::Identical)
        }
        Ok(sys::VIR_CPU_COMPARE_IDENTICAL | sys::VIR_CPU_COMPARE_SUPERSET) => Ok(CpuFit::Superset),
        Ok(_) => lacking("it lacks a feature".to_owned()),
        Err(e) if is_verdict(&e) => lacking(e.message().to_owned()),
        Err(e) => Err(e.into()),
    }
}

/// Whether it is about the processor that was asked for: incompatible, or of a model or with a feature that libvirt has
/// never heard of, which it calls an internal error of its part for processors.
fn is_verdict(e: &VirtError) -> bool {
    e.code()
        .is_known_and(|code| code == ErrorNumber::CpuIncompatible)
        || e.domain().is_known_and(|domain| domain == ErrorDomain::Cpu)
            && e.code()
                .is_known_and(|code| code == ErrorNumber::InternalError)
}

impl Libvirt {
    async fn ask<T: Send + 'static>(
        &self,
        name: &'static str,
        f: impl FnOnce(&Connect, VirtType) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        let virt = self.exchange.capabilities()?.virt_type;
        let call = Call::plain(Kind::Cheap, name);
        self.call(call, move |conn| f(conn, virt)).await
    }
}

#[async_trait]
impl Node for Libvirt {
    async fn cpu(&self) -> Result<CpuModel> {
        self.ask("virConnectGetDomainCapabilities", cpu).await
    }

    async fn cpu_features(&self, model: Option<String>) -> Result<Vec<String>> {
        let expand = move |conn: &Connect, virt| features(conn, virt, model);
        self.ask("virConnectBaselineCPU", expand).await
    }

    async fn compare_cpu(&self, cpu: CpuModel) -> Result<CpuFit> {
        let look = move |conn: &Connect, virt| compare(conn, virt, &cpu);
        self.ask("virConnectCompareHypervisorCPU", look).await
    }

    async fn cpu_times(&self) -> Result<CpuTimes> {
        let count = |conn: &Connect, _| {
            let times = ffi::cpu_times(conn)?;
            let mhz = conn.node_info()?.mhz;
            Ok(CpuTimes { mhz, ..times })
        };
        self.ask("virNodeGetCPUStats", count).await
    }
}
