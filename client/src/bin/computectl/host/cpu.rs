//! The host's processor: what it has done, and whether another can be given here.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use computedriver_client::{Client, v1};

use super::show;
use crate::exit::Failure;
use crate::out::Out;
use crate::text;

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// The model, by the hypervisor's names, as EPYC.
    #[arg(long, required_unless_present = "nova_cpu_info")]
    model: Option<String>,
    /// The architecture.
    #[arg(long, default_value = "x86_64")]
    architecture: String,
    /// The vendor. Default: any.
    #[arg(long)]
    vendor: Option<String>,
    /// A feature besides those of the model; may be repeated.
    #[arg(long = "feature", value_name = "NAME")]
    features: Vec<String>,
    /// A feature of the model that it does without; may be repeated.
    #[arg(long = "without", value_name = "NAME")]
    without: Vec<String>,
    /// Sockets. Default: not compared.
    #[arg(long, default_value_t = 0)]
    sockets: u32,
    /// Cores of a socket. Default: not compared.
    #[arg(long, default_value_t = 0)]
    cores: u32,
    /// Threads of a core. Default: not compared.
    #[arg(long, default_value_t = 0)]
    threads: u32,
    /// A file with Nova's cpu_info, in JSON, instead of all this.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "vendor", "features", "without", "sockets", "cores", "threads"])]
    nova_cpu_info: Option<PathBuf>,
}

/// A processor in one line.
pub(super) fn line(cpu: &v1::CpuModel) -> String {
    let plus = |sign: &str, names: &[String]| {
        names
            .iter()
            .map(|name| format!(" {sign}{name}"))
            .collect::<String>()
    };
    let (more, less) = (plus("+", &cpu.features), plus("-", &cpu.disabled_features));
    let (vendor, model) = (&cpu.vendor, &cpu.model);
    format!("{vendor} {model}{more}{less}").trim().to_owned()
}

pub(super) async fn times(client: &Client, out: &mut Out) -> Result<(), Failure> {
    let request = v1::GetHostCpuStatsRequest {};
    let told = client.host().get_host_cpu_stats(request).await?;
    let told = told.into_inner();
    let span = |ns: i64| text::span(Duration::from_nanos(u64::try_from(ns).unwrap_or_default()));
    let frequency = match told.frequency_mhz {
        0 => String::new(),
        mhz => format!("{mhz} MHz"),
    };
    let lines = vec![
        ("user", span(told.user_ns)),
        ("kernel", span(told.kernel_ns)),
        ("idle", span(told.idle_ns)),
        ("iowait", span(told.iowait_ns)),
        ("frequency", frequency),
    ];
    show(
        ("host_cpu_stats", "GetHostCpuStatsResponse"),
        &told,
        &lines,
        out,
    )
}

fn request(args: CompareArgs) -> Result<v1::CompareCpuRequest, Failure> {
    let Some(file) = args.nova_cpu_info else {
        let cpu = v1::CpuModel {
            architecture: args.architecture,
            model: args.model.unwrap_or_default(),
            vendor: args.vendor.unwrap_or_default(),
            sockets: args.sockets,
            cores: args.cores,
            threads: args.threads,
            features: args.features,
            disabled_features: args.without,
        };
        return Ok(v1::CompareCpuRequest {
            cpu: Some(cpu),
            ..Default::default()
        });
    };
    let read = std::fs::read_to_string(&file);
    let nova_cpu_info =
        read.map_err(|e| Failure::Usage(format!("{} cannot be read: {e}", file.display())))?;
    Ok(v1::CompareCpuRequest {
        nova_cpu_info,
        ..Default::default()
    })
}

pub(super) async fn compare(
    args: CompareArgs,
    client: &Client,
    out: &mut Out,
) -> Result<(), Failure> {
    let told = client.host().compare_cpu(request(args)?).await?;
    let told = told.into_inner();
    let name = text::short(told.comparison().as_str_name(), "CPU_COMPARISON_");
    let lines = vec![("host is", name.to_owned())];
    show(("comparison", "CompareCpuResponse"), &told, &lines, out)
}
