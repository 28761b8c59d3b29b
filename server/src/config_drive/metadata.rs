//! What the guest is told about itself: `meta_data.json` and its EC2 cousin, as Nova words them.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::Serialize;

use super::ConfigDrive;

/// Versions of the OpenStack layout, oldest first; `latest` holds what the newest does.
/// They sort as text, so that "since" is a comparison.
pub(super) const OPENSTACK_VERSIONS: [&str; 10] = [
    "2012-08-10",
    "2013-04-04",
    "2013-10-17",
    "2015-10-15",
    "2016-06-30",
    "2016-10-06",
    "2017-02-22",
    "2018-08-27",
    "2020-10-14",
    "latest",
];

/// Versions of the EC2 layout that Nova does not skip by default.
pub(super) const EC2_VERSIONS: [&str; 2] = ["2009-04-04", "latest"];

const RANDOM_SEED_SINCE: &str = "2013-04-04";
const DEVICES_SINCE: &str = "2016-06-30";
const DEDICATED_CPUS_SINCE: &str = "2020-10-14";
pub(super) const VENDOR_DATA_SINCE: &str = "2013-10-17";
pub(super) const NETWORK_DATA_SINCE: &str = "2015-10-15";
pub(super) const VENDOR_DATA2_SINCE: &str = "2016-10-06";

#[derive(Serialize)]
struct MetaData<'a> {
    uuid: String,
    name: &'a str,
    hostname: &'a str,
    launch_index: u32,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    meta: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<File<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    public_keys: BTreeMap<String, &'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keys: Vec<Key<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    admin_pass: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    random_seed: Option<String>,
    /// Tagged devices: nothing here can be tagged yet, and Nova then writes an empty list.
    #[serde(skip_serializing_if = "Option::is_none")]
    devices: Option<[(); 0]>,
    /// CPUs that belong to the guest alone: none are pinned.
    #[serde(skip_serializing_if = "Option::is_none")]
    dedicated_cpus: Option<[u32; 0]>,
}

#[derive(Serialize)]
struct File<'a> {
    path: &'a str,
    content_path: String,
}

#[derive(Serialize)]
struct Key<'a> {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    data: &'a str,
}

/// `meta_data.json` as `version` has it.
pub(super) fn openstack(drive: &ConfigDrive<'_>, version: &str) -> serde_json::Result<Vec<u8>> {
    let spec = drive.spec;
    let since = |first: &str| version >= first;
    serde_json::to_vec(&MetaData {
        uuid: spec.id.to_string(),
        name: &spec.display_name,
        hostname: &spec.hostname,
        launch_index: 0,
        meta: &spec.metadata,
        files: (0..)
            .zip(&spec.injected_files)
            .map(|(number, file)| File {
                path: &file.path,
                content_path: format!("/{}", content_path(number)),
            })
            .collect(),
        public_keys: keys(drive).collect(),
        keys: keys(drive)
            .map(|(name, data)| Key {
                name,
                kind: "ssh",
                data,
            })
            .collect(),
        admin_pass: spec.admin_password.as_ref().map(|p| p.expose().as_str()),
        random_seed: since(RANDOM_SEED_SINCE).then(|| BASE64.encode(drive.random_seed)),
        devices: since(DEVICES_SINCE).then_some([]),
        dedicated_cpus: since(DEDICATED_CPUS_SINCE).then_some([]),
    })
}

/// Where the injected file of this number lies, below `openstack/`.
pub(super) fn content_path(number: usize) -> String {
    format!("content/{number:04}")
}

/// The contract's keys have no names of their own; guests only read the keys.
fn keys<'a>(drive: &ConfigDrive<'a>) -> impl Iterator<Item = (String, &'a str)> {
    let keys = (0..).zip(&drive.spec.public_keys);
    keys.map(|(number, key): (usize, _)| (format!("key-{number}"), key.as_str()))
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Ec2MetaData<'a> {
    instance_id: String,
    instance_type: &'a str,
    hostname: &'a str,
    local_hostname: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    local_ipv4: Option<String>,
    instance_action: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    public_keys: BTreeMap<String, Ec2Key<'a>>,
    /// cloud-init mounts `ephemeral0` and uses `swap` by what it finds here.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    block_device_mapping: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Ec2Key<'a> {
    openssh_key: &'a str,
}

/// `ec2/…/meta-data.json`: the fields of Nova's that exist here.
pub(super) fn ec2(drive: &ConfigDrive<'_>) -> serde_json::Result<Vec<u8>> {
    let spec = drive.spec;
    let addresses = spec.vifs.iter().flat_map(|vif| &vif.subnets);
    let mut fixed = addresses.filter_map(|subnet| subnet.address);
    serde_json::to_vec(&Ec2MetaData {
        instance_id: spec.id.to_string(),
        instance_type: &spec.flavor.name,
        hostname: &spec.hostname,
        local_hostname: &spec.hostname,
        local_ipv4: fixed
            .find(|address| address.ip.is_ipv4())
            .map(|address| address.ip.to_string()),
        instance_action: "none",
        public_keys: (0..)
            .zip(&spec.public_keys)
            .map(|(number, key): (usize, _)| (number.to_string(), Ec2Key { openssh_key: key }))
            .collect(),
        block_device_mapping: drive.block_device_mapping,
    })
}
