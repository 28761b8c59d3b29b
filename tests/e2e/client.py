"""What a Python program does with computelet: spawn, watch, ask, destroy. Usage: client.py STUBS TARGET IMAGE"""
import sys
import uuid

sys.path.insert(0, sys.argv[1])

import grpc  # noqa: E402
from computedriver.v1 import disk_pb2, image_pb2, instance_create_pb2, instance_pb2, instance_query_pb2  # noqa: E402
from computedriver.v1 import instance_service_pb2_grpc  # noqa: E402

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
    for message in instances.Destroy(instance_create_pb2.DestroyRequest(instance_id=instance_id), timeout=120):
        pass
    try:
        instances.GetInfo(instance_query_pb2.GetInfoRequest(instance_id=instance_id), timeout=10)
        raise SystemExit("the instance is still there")
    except grpc.RpcError as e:
        assert e.code() == grpc.StatusCode.NOT_FOUND, e
