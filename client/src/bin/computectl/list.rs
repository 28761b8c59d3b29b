//! `computectl list`.

use serde_json::json;

use crate::args::Session;
use crate::exit::Failure;
use crate::out::Out;
use crate::{json, text};

pub(crate) async fn run(session: &Session, out: &mut Out) -> Result<(), Failure> {
    let instances = session.connect().await?.stream_instances().await?;
    if out.is_json() {
        for instance in &instances {
            let view = json::view("InstanceInfo", instance);
            out.object(&json!({ "instance": view }))?;
        }
        return Ok(());
    }
    let rows: Vec<Vec<String>> = instances
        .iter()
        .map(|i| {
            vec![
                i.instance_id.clone(),
                text::power_state(i.state()).to_owned(),
                i.num_cpu.to_string(),
                text::bytes(i.max_mem_kib.saturating_mul(1024)),
                text::time(i.created_time.as_ref()),
                i.display_name.clone(),
            ]
        })
        .collect();
    out.table(
        &["INSTANCE", "STATE", "VCPUS", "MEMORY", "CREATED", "NAME"],
        &rows,
    )?;
    Ok(())
}
