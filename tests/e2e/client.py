"""What a Python program does with computelet: spawn, watch, ask each service, destroy. Usage: client.py STUBS TARGET IMAGE"""
import importlib
import sys
import uuid

sys.path.insert(0, sys.argv[1])

import grpc  # noqa: E402
from computedriver.v1 import disk_pb2, image_pb2, instance_create_pb2, instance_pb2, instance_query_pb2  # noqa: E402
from computedriver.v1 import console_service_pb2, host_service_pb2, image_service_pb2  # noqa: E402
from computedriver.v1 import device_service_pb2, guest_service_pb2, operation_service_pb2, stats_service_pb2  # noqa: E402
from computedriver.v1 import device_service_pb2_grpc, guest_service_pb2_grpc  # noqa: E402
from computedriver.v1 import console_service_pb2_grpc, host_service_pb2_grpc, image_service_pb2_grpc  # noqa: E402
from computedriver.v1 import instance_service_pb2_grpc, operation_service_pb2_grpc, stats_service_pb2_grpc  # noqa: E402



def refused(code, call, message):
    """Expects that a call is refused."""
    try:
        call(message, timeout=60)
    except grpc.RpcError as e:
        assert e.code() == code, e
        return
    raise SystemExit(f"a call is answered, where {code} is due")


def ask_unserved(channel, service, served):
    """The first RPC of a service that the host does not serve."""
    module = f"computedriver.v1.{service}_service_pb2"
    (described,) = importlib.import_module(module).DESCRIPTOR.services_by_name.values()
    for method in described.methods:
        if not served[described.full_name, method.name] and not method.client_streaming and not method.server_streaming:
            file = importlib.import_module(method.input_type.file.name.removesuffix(".proto").replace("/", ".") + "_pb2")
            stub = getattr(importlib.import_module(f"{module}_grpc"), f"{described.name}Stub")(channel)
            request = getattr(file, method.input_type.name)()
            return refused(grpc.StatusCode.UNIMPLEMENTED, getattr(stub, method.name), request)


target, image = sys.argv[2], sys.argv[3]
# Over a unix socket C core sends the socket's path as :authority; computelet mends it, so no option is needed.
with grpc.insecure_channel(target) as channel:
    instances = instance_service_pb2_grpc.InstanceServiceStub(channel)
    instance_id = str(uuid.uuid4())
    request = instance_create_pb2.SpawnRequest(
        instance_id=instance_id,
        flavor=instance_pb2.Flavor(vcpus=1, memory_mib=16),
        image=image_pb2.Image(image_id="boot-sector", location=f"file://{image}", format=disk_pb2.DISK_FORMAT_RAW),
    )
    spawned = None
    for message in instances.Spawn(request, timeout=120):
        if message.WhichOneof("event") == "progress":
            print(message.progress.sequence, message.progress.phase, message.progress.step)
        elif message.WhichOneof("event") == "instance":
            spawned = message.instance
    assert spawned is not None and spawned.instance_id == instance_id
    for message in instances.WatchBoot(instance_create_pb2.WatchBootRequest(instance_id=instance_id), timeout=60):
        last = message
    assert last.WhichOneof("event") == "instance"
    info = instances.GetInfo(instance_query_pb2.GetInfoRequest(instance_id=instance_id), timeout=10).info
    print(instance_pb2.PowerState.Name(info.state))

    disk_id = spawned.disks[0].disk_id
    stats = stats_service_pb2_grpc.StatsServiceStub(channel)
    counted = stats.GetBlockStats(
        stats_service_pb2.GetBlockStatsRequest(instance_id=instance_id, disk_id=disk_id), timeout=60
    )
    assert counted.counters.disk_id == disk_id
    consoles = console_service_pb2_grpc.ConsoleServiceStub(channel)
    consoles.GetConsoleOutput(console_service_pb2.GetConsoleOutputRequest(instance_id=instance_id), timeout=10)
    cached = image_service_pb2_grpc.ImageServiceStub(channel).ListImages(image_service_pb2.ListImagesRequest(), timeout=10)
    assert instance_id in cached.images[0].instance_ids
    operations = operation_service_pb2_grpc.OperationServiceStub(channel)
    begun = operations.ListOperations(
        operation_service_pb2.ListOperationsRequest(instance_id=instance_id), timeout=10
    ).operations
    assert [operation.verb for operation in begun] == ["Spawn"]
    host = host_service_pb2_grpc.HostServiceStub(channel)
    offered = {one.resource_class: one for one in host.GetInventory(host_service_pb2.GetInventoryRequest(), timeout=10).inventories}
    assert offered["MEMORY_MB"].used == 16, offered
    report = host.ReportAvailableResource(host_service_pb2.ReportAvailableResourceRequest(), timeout=60)
    assert next(report).resource.running_instances == 1
    report.cancel()
    devices = device_service_pb2_grpc.DeviceServiceStub(channel)
    disks = devices.ListDisks(device_service_pb2.ListDisksRequest(instance_id=instance_id), timeout=10).disks
    assert disk_id in [disk.disk_id for disk in disks]
    guests = guest_service_pb2_grpc.GuestServiceStub(channel)
    asked = guest_service_pb2.GetGuestInfoRequest(instance_id=instance_id)
    refused(grpc.StatusCode.FAILED_PRECONDITION, guests.GetGuestInfo, asked)
    rpcs = host.GetCapabilities(host_service_pb2.GetCapabilitiesRequest(), timeout=10).rpcs
    served = {(rpc.service, rpc.method): rpc.supported for rpc in rpcs}
    ask_unserved(channel, "network", served)
    ask_unserved(channel, "migration", served)

    for message in instances.Destroy(instance_create_pb2.DestroyRequest(instance_id=instance_id), timeout=120):
        pass
    try:
        instances.GetInfo(instance_query_pb2.GetInfoRequest(instance_id=instance_id), timeout=10)
        raise SystemExit("the instance is still there")
    except grpc.RpcError as e:
        assert e.code() == grpc.StatusCode.NOT_FOUND, e
