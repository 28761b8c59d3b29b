"""Nova's LibvirtDriver, alone: no database, no message queue, no neutron, no glance; privsep in process, so that the hop to
its daemon is not charged to it. Answers lines of JSON on standard input, as every peer of the bench does.

nova_driver.py STATE_DIR IMAGE. Asked {"do": "spawn"}, {"do": "destroy"} or {"do": "resources"} it answers {"ms": how long it took}.
"""

import contextlib
import datetime
import hashlib
import json
import logging
import os
import shutil
import sys
import time
import uuid

os.environ["OS_NOVA_DISABLE_EVENTLET_PATCHING"] = "true"
from nova import monkey_patch

monkey_patch.patch("threading")

import nova.conf
import nova.conf.neutron
import nova.network.model
import nova.network.security_group_api
import nova.privsep
import os_vif
from nova import config, context, objects, rpc
from nova.virt import fake
from nova.virt.libvirt import driver

STATE, IMAGE_FILE = sys.argv[1:3]
IMAGE = "a1b2c3d4-0000-4000-8000-000000000001"
HOST = "bench"
CONFIG = f"""[DEFAULT]
state_path={STATE}
instances_path={STATE}/instances
compute_driver=libvirt.LibvirtDriver
my_ip=127.0.0.1
host={HOST}
force_config_drive=True
[libvirt]
virt_type=qemu
cpu_mode=none
images_type=qcow2
swtpm_enabled=False
[oslo_concurrency]
lock_path={STATE}/lock
[vnc]
enabled=False
[notifications]
notification_format=unversioned
"""


def configure():
    """Nova's own start, as far as a driver alone needs it."""
    base = f"{STATE}/instances/_base"
    os.makedirs(base, exist_ok=True)
    # Nova names a cached image so; it is there already, as computelet's is.
    cached = f"{base}/{hashlib.sha1(IMAGE.encode()).hexdigest()}"
    shutil.copy(IMAGE_FILE, cached)
    # Nova takes a boot sector without partitions for an attack. How long a start takes does not hang on what boots.
    with open(cached, "r+b") as file:
        file.write(bytes(512))
    path = f"{STATE}/nova.conf"
    with open(path, "w") as file:
        file.write(CONFIG)
    config.parse_args(
        ["nova", "--config-file", path], default_config_files=[path], configure_db=False, init_rpc=False
    )
    nova.conf.neutron.register_dynamic_opts(nova.conf.CONF)
    logging.disable(logging.ERROR)
    nova.privsep.sys_admin_pctxt.set_client_mode(False)
    with contextlib.suppress(Exception):
        os_vif.initialize()
    objects.register_all()


def without_database():
    """What Nova would read from its database: nothing."""

    def none_of(kind):
        return lambda *args, **kwargs: kind(objects=[])

    for kind, reader in [
        (objects.BlockDeviceMappingList, "get_by_instance_uuid"),
        (objects.VirtualInterfaceList, "get_by_instance_uuid"),
        (objects.ShareMappingList, "get_by_instance_uuid"),
        (objects.InstanceList, "get_by_filters"),
        (objects.InstanceList, "get_by_host"),
        (objects.SecurityGroupList, "get_by_instance"),
        (objects.KeyPairList, "get_by_instance_uuid"),
    ]:
        setattr(kind, reader, none_of(kind))
    objects.BlockDeviceMappingList.bdms_by_instance_uuid = lambda *args, **kwargs: {}
    objects.Instance.save = lambda self, *args, **kwargs: None
    objects.EC2Ids.get_by_instance = lambda *args, **kwargs: ec2_ids()
    objects.Service.get_by_compute_host = lambda *args, **kwargs: objects.Service(disabled=False, host=HOST)
    nova.network.security_group_api.get_instance_security_groups = lambda *args, **kwargs: []
    quiet = type("Notifier", (), {"__getattr__": lambda self, name: lambda *args, **kwargs: None})
    rpc.get_notifier = lambda *args, **kwargs: quiet()


def ec2_ids():
    return objects.EC2Ids(instance_id="i-1", ami_id="ami-1", kernel_id=None, ramdisk_id=None)


def flavor():
    return objects.Flavor(
        id=1, name="tiny", memory_mb=16, vcpus=1, root_gb=1, ephemeral_gb=0, swap=0, flavorid="1", rxtx_factor=1.0,
        vcpu_weight=0, extra_specs={}, is_public=True, disabled=False,
    )


def instance(ctx, number):
    """A new instance, as nova-compute hands it to the driver."""
    own = str(uuid.uuid4())
    now = datetime.datetime.now(datetime.timezone.utc)
    absent = dict.fromkeys(
        "key_name key_data vm_mode numa_topology resources vcpu_model device_metadata trusted_certs migration_context "
        "user_data default_ephemeral_device default_swap_device access_ip_v4 access_ip_v6 ephemeral_key_uuid updated_at "
        "deleted_at launched_at terminated_at cell_name".split()
    )
    made = objects.Instance(
        context=ctx, id=number, uuid=own, display_name=f"bench-{number}", hostname=f"bench-{number}", project_id="p",
        user_id="u", image_ref=IMAGE, kernel_id="", ramdisk_id="", flavor=flavor(), instance_type_id=1, memory_mb=16,
        vcpus=1, root_gb=1, ephemeral_gb=0, host=HOST, node=HOST, launched_on=HOST, launch_index=0, reservation_id="r-1",
        os_type="linux", architecture="x86_64", metadata={}, tags=objects.TagList(objects=[]),
        system_metadata={"image_disk_format": "raw", "image_container_format": "bare"},
        pci_requests=objects.InstancePCIRequests(requests=[], instance_uuid=own),
        pci_devices=objects.PciDeviceList(objects=[]), ec2_ids=ec2_ids(),
        info_cache=objects.InstanceInfoCache(instance_uuid=own, network_info=nova.network.model.NetworkInfo([])),
        security_groups=objects.SecurityGroupList(objects=[]), keypairs=objects.KeyPairList(objects=[]), config_drive="",
        root_device_name="/dev/vda", auto_disk_config=False, availability_zone="nova", locked=False, locked_by=None,
        power_state=0, vm_state="building", task_state="spawning", progress=0, cleaned=False, deleted=False,
        created_at=now, shutdown_terminate=False, disable_terminate=False, hidden=False,
        services=objects.ServiceList(objects=[]), **absent,
    )
    made.obj_reset_changes()
    return made


class Peer:
    """The driver, and what was spawned last."""

    def __init__(self):
        configure()
        without_database()
        self.context = context.RequestContext("u", "p", is_admin=True)
        self.driver = driver.LibvirtDriver(fake.FakeVirtAPI())
        self.driver.init_host(HOST)
        self.image = objects.ImageMeta.from_dict(
            {
                "id": IMAGE, "name": "bench", "disk_format": "raw", "container_format": "bare", "min_disk": 1,
                "min_ram": 0, "size": os.path.getsize(IMAGE_FILE), "properties": {},
            }
        )
        self.spawned = []
        self.count = 0

    def spawn(self):
        self.count += 1
        made = instance(self.context, self.count)
        network = nova.network.model.NetworkInfo([])
        self.driver.spawn(self.context, made, self.image, [], None, {}, network_info=network)
        self.spawned.append(made)

    def destroy(self):
        network = nova.network.model.NetworkInfo([])
        self.driver.destroy(self.context, self.spawned.pop(), network, None)

    def resources(self):
        self.driver.get_available_resource(HOST)


def main():
    # What Nova prints is no answer.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    peer = Peer()
    print(json.dumps({"ready": True}), file=answers)
    for line in sys.stdin:
        try:
            work = getattr(peer, json.loads(line)["do"])
            begun = time.perf_counter()
            work()
            answer = {"ms": (time.perf_counter() - begun) * 1e3}
        except Exception as error:
            answer = {"error": repr(error)[:300]}
        print(json.dumps(answer), file=answers)


main()
