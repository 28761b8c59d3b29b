"""Prints, as JSON, what cloud-init makes of the config drive unpacked in the folder given."""
import json
import sys

from cloudinit import sources
from cloudinit.net import network_state
from cloudinit.sources.DataSourceConfigDrive import read_config_drive
from cloudinit.sources.helpers import openstack

drive = read_config_drive(sys.argv[1])
metadata = drive["metadata"]
# The guest's own names of its interfaces, which cloud-init would look up by address.
names = {"52:54:00:12:34:56": "eth0", "52:54:00:12:34:57": "eth1"}
config = openstack.convert_net_json(drive["networkdata"], known_macs=names)
state = network_state.parse_net_config_data(config)


def as_bytes(data):
    return data if isinstance(data, bytes) else data.encode()


def subnet(found):
    out = {"type": found["type"]}
    if found["type"] == "static":
        gateways = [r["gateway"] for r in found.get("routes", []) if r["prefix"] == 0]
        out.update(address=found["address"], prefix=found["prefix"], gateways=gateways)
    return out


print(json.dumps({
    "instance_id": metadata["uuid"],
    "hostname": metadata["hostname"],
    "name": metadata["name"],
    "meta": metadata["meta"],
    "keys": sources.normalize_pubkey_data(metadata["public_keys"]),
    "admin_pass": metadata["admin_pass"],
    "random_seed": metadata["random_seed"].hex(),
    "userdata": as_bytes(drive["userdata"]).hex(),
    "files": {path: as_bytes(data).hex() for path, data in drive["files"].items()},
    "vendordata": [sources.convert_vendordata(drive[name]) or {} for name in ("vendordata", "vendordata2")],
    "ephemeral0": drive["ec2-metadata"]["block-device-mapping"]["ephemeral0"],
    "network": {
        found["name"]: {"mac": found["mac_address"], "subnets": [subnet(s) for s in found["subnets"]]}
        for found in state.iter_interfaces()
    },
    "dns": state.dns_nameservers,
}))
