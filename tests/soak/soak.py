"""Asks a real server random things, kills it and its guests at random moments, and looks whether what the contract says still holds.

Usage: soak.py SERVER GUEST [SEED [TURNS]]

SERVER is a `computelet` binary, GUEST the folder of the tiny guest's images. What is asked follows from SEED; when a crash comes in it
follows from the machine, too, so a run cannot be repeated exactly. Each turn asks one to three instances something, and meanwhile does
nothing, kills the server (which is started again, perhaps killed once more while it recovers), kills an emulator, cancels what runs, or
asks everything twice. Then, when all operations have ended:

- what failed or was cancelled has left its instance as it was, and no other instance has changed;
- an instance that is there has its folder, its definition and an emulator exactly if it is told to be on; one that is not has none;
- no file of a half-made change is left;
- every error has a reason, none is UNKNOWN or INTERNAL; a success is told as one by its operation, and a repeat answers the same;
- the server was ready again soon, ended never by itself, and nothing panicked.

Exits with 1 when one of these does not hold, and says where the server's log and state are.
"""

import atexit
import glob
import importlib
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import xml.etree.ElementTree as xml

import grpc
from google.protobuf import json_format
from grpc_tools import protoc

SERVICES = ["instance", "device", "operation", "host"]
VERBS = {
    "Spawn": 2, "Destroy": 1, "Reboot": 2, "PowerOff": 2, "PowerOn": 2, "Pause": 2, "Unpause": 2, "Suspend": 2, "Resume": 2,
    "Rescue": 2, "Unrescue": 2, "Snapshot": 2, "Resize": 2, "Rebuild": 2, "AttachVolume": 2, "DetachVolume": 2, "ExtendVolume": 2,
    "SwapVolume": 2, "CreateVolumeSnapshot": 2, "DeleteVolumeSnapshot": 2,
}
# What brings an instance out of a state: asked more often there.
FITTING = {
    "SUSPENDED": ["Resume", "Snapshot", "Destroy"],
    "PAUSED": ["Unpause", "Reboot", "Snapshot", "PowerOff", "Suspend", "Rebuild", "AttachVolume"],
    "SHUTDOWN": ["PowerOn", "Resize", "Rebuild", "Reboot", "AttachVolume", "DetachVolume", "Rescue", "Snapshot", "CreateVolumeSnapshot"],
}
RESCUED = ["Unrescue", "Reboot", "PowerOff", "PowerOn"]
HAPPENINGS = {"none": 4, "crash": 5, "emulator": 1, "cancel": 2, "twice": 2}
MOMENTS = [0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 2]
RUNNING = (1, 2, 3)  # OPERATION_STATE_RUNNING, _CANCELLING, _UNWINDING
LIMIT = 180  # seconds; nothing here takes so long
SOON = 60  # seconds; a guest that hangs holds up a start for less


class Refused(Exception):
    """An RPC that failed."""

    def __init__(self, error):
        self.code, self.words, self.reason = error.code().name, error.details(), ""
        for name, value in error.trailing_metadata() or []:
            if name == "grpc-status-details-bin":
                found = re.search(rb"ErrorInfo.{1,8}?\n.([A-Z][A-Z_]+)\x12", value, re.S)
                self.reason = found.group(1).decode() if found else ""
        super().__init__(f"{self.code}/{self.reason}: {self.words}")


class Contract:
    """The stubs of the contract, made from its protos."""

    def __init__(self, folder):
        protos = os.path.join(os.path.dirname(__file__), "../../proto")
        files = sorted(glob.glob(f"{protos}/computedriver/v1/*.proto"))
        known = os.path.join(os.path.dirname(protoc.__file__), "_proto")
        if protoc.main(["protoc", f"-I{protos}", f"-I{known}", f"--python_out={folder}", f"--grpc_python_out={folder}", *files]):
            raise SystemExit("the protos cannot be compiled")
        sys.path.insert(0, folder)
        self.messages, self.methods = {}, {}
        for file in files:
            module = importlib.import_module("computedriver.v1." + os.path.basename(file).replace(".proto", "_pb2"))
            self.messages.update({name: value for name, value in vars(module).items() if isinstance(value, type)})
        for service in SERVICES:
            described = importlib.import_module(f"computedriver.v1.{service}_service_pb2").DESCRIPTOR
            stubs = importlib.import_module(f"computedriver.v1.{service}_service_pb2_grpc")
            for name, of in described.services_by_name.items():
                self.methods.update({method.name: (getattr(stubs, name + "Stub"), method) for method in of.methods})

    def name(self, message, field, number):
        return self.messages[message].DESCRIPTOR.fields_by_name[field].enum_type.values_by_number[number].name


class Host:
    """A server with its state, and what is known of it from outside."""

    def __init__(self, server, contract):
        self.folder = tempfile.mkdtemp(prefix="soak-")
        os.chmod(self.folder, 0o711)
        self.volumes = f"{self.folder}/volumes"
        os.mkdir(self.volumes)
        os.chmod(self.volumes, 0o777)
        self.server, self.contract, self.process, self.channel = server, contract, None, None
        self.log = open(f"{self.folder}/log", "ab")

    def start(self):
        settings = {
            "COMPUTELET_LOG_FILTER": "debug,h2=info,hyper=info,tower=info",
            "COMPUTELET_IMAGES_FILE_DIRS": "/",
            "COMPUTELET_IMAGES_EXPORT_DIRS": self.volumes,
            "COMPUTELET_VOLUMES_DIRS": self.volumes,
            "COMPUTELET_GUESTS_SHUTDOWN_TIMEOUT": "1s",
        }
        line = [self.server, "serve", "--state-dir", f"{self.folder}/s"]
        out = {"stdin": subprocess.DEVNULL, "stdout": self.log, "stderr": self.log}
        self.process = subprocess.Popen(line, env={**os.environ, **settings}, **out)

    def wait(self):
        """How long it took until it was ready."""
        since = time.monotonic()
        while time.monotonic() - since < LIMIT:
            if self.process.poll() is not None:
                raise SystemExit(f"the server ended by itself with {self.process.returncode}: {self.folder}")
            try:
                if self.call("GetReadiness", {}, 5).readiness == 1:
                    return time.monotonic() - since
            except Refused:
                pass
            time.sleep(0.1)
        raise SystemExit(f"the server does not become ready: {self.folder}")

    def crash(self):
        self.process.kill()
        self.process.wait()
        if self.channel:
            self.channel.close()
            self.channel = None

    def end(self):
        if self.process and self.process.poll() is None:
            self.crash()
        for pids in self.emulators().values():
            for pid in pids:
                kill(pid)

    def call(self, rpc, body, limit=LIMIT):
        """The answer, or the last message of a stream."""
        if self.channel is None:
            self.channel = grpc.insecure_channel(f"unix:{self.folder}/s/computelet.sock")
        stub, method = self.contract.methods[rpc]
        request = json_format.ParseDict(body, self.contract.messages[method.input_type.name]())
        try:
            answer = getattr(stub(self.channel), rpc)(request, timeout=limit)
            if not method.server_streaming:
                return answer
            last = None
            for last in answer:
                pass
            return last
        except grpc.RpcError as error:
            raise Refused(error) from None

    def emulators(self):
        """Process ids of the emulators that run, by instance."""
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                line = open(f"/proc/{pid}/cmdline", "rb").read().decode("latin1")
                state = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0]
            except OSError:
                continue
            guest = re.search(r"guest=computelet-([0-9a-f-]{36})", line)
            if "qemu-system" in line[:40] and self.folder in line and guest and state != "Z":
                found.setdefault(guest.group(1), []).append(int(pid))
        return found

    def view(self, instance):
        """What callers are told of an instance; none when it is not there."""
        try:
            told = self.call("GetInstance", {"instanceId": instance}).instance
        except Refused as refused:
            if refused.code == "NOT_FOUND":
                return None
            raise
        return {
            "power": self.contract.name("Instance", "power_state", told.power_state).removeprefix("POWER_STATE_"),
            "wanted": told.should_run,
            "rescued": told.rescued,
            "flavor": (told.flavor.vcpus, told.flavor.memory_mib, told.flavor.root_gib),
            "image": told.image.image_id,
            "disks": sorted((disk.disk_id, disk.volume_id, disk.size_bytes) for disk in told.disks),
        }

    def settled(self):
        """All operations, once none runs."""
        since = time.monotonic()
        while time.monotonic() - since < LIMIT:
            operations = self.call("ListOperations", {"pageSize": 500}).operations
            if not [each for each in operations if each.state in RUNNING]:
                return operations
            time.sleep(0.1)
        raise SystemExit(f"operations do not end: {self.folder}")

    def file_of(self, instance, volume):
        """The file that a volume of an instance is now, by its definition."""
        definition = f"{self.folder}/s/qemu/etc/qemu/computelet-{instance}.xml"
        for disk in xml.parse(definition).getroot().iter("disk") if os.path.exists(definition) else []:
            if disk.findtext("serial") == volume:
                return disk.find("source").get("file")
        return None


class Soak:
    def __init__(self, host, guest, seed):
        self.host, self.chance, self.faults, self.made = host, random.Random(seed), [], 0
        self.image = {"imageId": "boot", "location": f"file://{guest}/boot-sector.raw", "format": "DISK_FORMAT_RAW"}
        self.instances = [str(uuid.UUID(int=self.chance.getrandbits(128))) for _ in range(3)]
        self.views, self.snapshots, self.turn = {}, {}, "at the start"

    def fault(self, *words):
        self.faults.append(f"{self.turn}: " + " ".join(map(str, words)))
        print("!!!", self.faults[-1], flush=True)

    def volume(self, mib=8):
        self.made += 1
        path = f"{self.host.volumes}/{self.made}.img"
        with open(path, "wb") as file:
            file.truncate(mib << 20)
        os.chmod(path, 0o666)
        return path

    @staticmethod
    def device(instance, path):
        volume = str(uuid.uuid5(uuid.NAMESPACE_URL, path))
        connection = {"volumeId": volume, "local": {"path": path}, "format": "DISK_FORMAT_RAW"}
        return {"diskId": str(uuid.uuid5(uuid.NAMESPACE_URL, path + instance)), "volume": connection}

    def flavor(self):
        size = self.chance.randrange(3)
        return {"vcpus": 1 + size % 2, "memoryMib": "16", "rootGib": "0" if size < 2 else "1"}

    def request(self, verb, instance):
        """A request of that verb; none when it makes no sense."""
        body, chance = {"instanceId": instance, "requestId": str(uuid.UUID(int=chance_bits(self.chance)))}, self.chance
        view = self.views[instance]
        volumes = [disk for disk in view["disks"] if disk[1]] if view else []
        if verb in ("DetachVolume", "ExtendVolume", "SwapVolume", "CreateVolumeSnapshot"):
            if not volumes:
                return None
            disk, volume, size = chance.choice(volumes)
        if verb == "Spawn":
            body |= {"flavor": self.flavor(), "image": self.image}
            body |= {"blockDevices": [self.device(instance, self.volume())]} if chance.random() < 0.5 else {}
            body |= {"configDrive": True} if chance.random() < 0.5 else {}
        elif verb == "PowerOff":
            body |= {"timeout": "1s"} if chance.random() < 0.5 else {}
        elif verb == "Reboot":
            body |= chance.choice([{"kind": "REBOOT_KIND_SOFT", "timeout": "1s"}, {"kind": "REBOOT_KIND_HARD"}])
        elif verb == "Snapshot":
            kind, form = chance.choice(["LIVE", "COLD"]), chance.choice(["RAW", "QCOW2"])
            body |= {"imageId": "snapshot", "path": f"{self.host.volumes}/{body['requestId']}.snapshot"}
            body |= {"kind": f"SNAPSHOT_KIND_{kind}", "format": f"DISK_FORMAT_{form}"}
        elif verb == "Resize":
            body |= {"flavor": self.flavor(), "mode": chance.choice(["RESIZE_MODE_LIVE_ONLY", "RESIZE_MODE_MAY_RESTART"])}
        elif verb == "Rebuild":
            body |= {"image": self.image}
        elif verb == "AttachVolume":
            body |= {"device": self.device(instance, self.volume())}
        elif verb == "DetachVolume":
            # This guest has no system that could let go of a device.
            if view["power"] != "SHUTDOWN":
                return None
            body |= {"volumeId": volume}
        elif verb == "ExtendVolume":
            path = self.host.file_of(instance, volume)
            if not path or not path.endswith(".img"):
                return None
            os.truncate(path, size + (1 << 20))
            body |= {"diskId": disk, "sizeBytes": str(size + (1 << 20))}
        elif verb == "SwapVolume":
            body |= {"diskId": disk, "newVolume": self.device(instance, self.volume(size >> 20))["volume"]}
        elif verb == "CreateVolumeSnapshot":
            path = self.host.file_of(instance, volume)
            if not path:
                return None
            new, below = f"{self.host.volumes}/{body['requestId']}.qcow2", "raw" if path.endswith(".img") else "qcow2"
            make = ["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", os.path.basename(path), "-F", below, new, str(size)]
            subprocess.run(make, check=True)
            os.chmod(new, 0o666)
            body |= {"volumeId": volume, "snapshotId": str(uuid.uuid4()), "newFile": os.path.basename(new)}
            self.snapshots[body["requestId"]] = (instance, volume, body["snapshotId"], os.path.basename(path))
        elif verb == "DeleteVolumeSnapshot":
            own = [each for key, each in self.snapshots.items() if each[0] == instance and key in self.done]
            if not own:
                return None
            _, volume, snapshot, file = own[-1]
            body |= {"volumeId": volume, "snapshotId": snapshot, "fileToMerge": file}
        return body

    done = frozenset()

    def plan(self):
        """What is asked in this turn, of whom."""
        asked = []
        for instance in self.chance.sample(self.instances, self.chance.choice([1, 1, 2, 3])):
            view, weights = self.views[instance], dict(VERBS)
            if view is None:
                weights = {verb: 20 if verb == "Spawn" else 0.3 for verb in VERBS}
            else:
                fitting = RESCUED if view["rescued"] else FITTING.get(view["power"])
                weights = {verb: weight * ((8 if verb in fitting else 0.4) if fitting else 1) for verb, weight in VERBS.items()}
            verb = self.chance.choices(list(weights), list(weights.values()))[0]
            body = self.request(verb, instance)
            if body:
                asked.append((verb, instance, body))
        return asked

    def ask(self, verb, body, answers, key):
        try:
            answers[key] = self.host.call(verb, body) and None
        except Refused as refused:
            answers[key] = refused

    def happen(self, happening):
        """Answers whose emulator was killed."""
        time.sleep(self.chance.choice(MOMENTS))
        if happening == "crash":
            self.host.crash()
        elif happening == "emulator":
            running = self.host.emulators()
            if running:
                victim = self.chance.choice(sorted(running))
                for pid in running[victim]:
                    kill(pid)
                return victim
        elif happening == "cancel":
            for operation in self.host.call("ListOperations", {"pageSize": 50}).operations:
                if operation.state in RUNNING:
                    try:
                        self.host.call("CancelOperation", {"operationId": operation.operation_id})
                    except Refused:
                        pass  # It has ended meanwhile, or only goes forward.
        return None

    def look(self):
        """What holds of every instance by itself; answers how each is told."""
        since = time.monotonic()
        while True:  # libvirt takes a second or two to notice an emulator's death.
            running = self.host.emulators()
            views = {instance: self.host.view(instance) for instance in self.instances}
            on = {instance for instance, view in views.items() if view and view["power"] in ("RUNNING", "PAUSED")}
            if on == set(running) or time.monotonic() - since > 20:
                break
            time.sleep(0.1)
        listed = self.host.call("ListInstances", {}).instance_ids
        state = f"{self.host.folder}/s"
        for instance, view in views.items():
            folder = f"{state}/instances/{instance}"
            there = (os.path.isdir(folder), os.path.exists(f"{state}/qemu/etc/qemu/computelet-{instance}.xml"), instance in listed)
            if there != (view is not None,) * 3:
                self.fault(instance, "told as", view, "but folder, definition, listing are", there)
            if len(running.get(instance, [])) != (instance in on):
                self.fault(instance, "told as", view, "and has emulators", running.get(instance))
            files = os.listdir(folder) if there[0] else []
            left = [file for file in files if re.search(r"part|tmp|aside|snapshot", file)]
            if left:
                self.fault(instance, "has what is left of a change:", left)
        return views

    def judge(self, asked, answers, happening, victim, before, after):
        operations = {each.request_id: each for each in self.settled}
        excused = {victim}
        if happening == "crash":  # Those that should run are brought back.
            excused |= {one for one in self.instances if before[one] and before[one]["power"] == "SHUTDOWN" and before[one]["wanted"]}
        told = []
        for number, (verb, instance, body) in enumerate(asked):
            refused, operation = answers.get(number), operations.get(body["requestId"])
            state = self.host.contract.name("Operation", "state", operation.state)[16:] if operation else "none"
            said = f"{refused.code}/{refused.reason}" if refused else "OK"
            told.append(f"{verb} {instance[:4]} {said}")
            cut = happening == "crash" and refused and refused.code in ("UNAVAILABLE", "CANCELLED", "UNKNOWN")
            if refused and not cut and happening != "emulator":
                if refused.code in ("UNKNOWN", "INTERNAL", "UNAVAILABLE") or not refused.reason:
                    self.fault(verb, refused)
            if not cut and operation and (refused is None) != (state == "SUCCEEDED"):
                self.fault(verb, "says", refused or "OK", "and its operation", state)
            if state in ("FAILED", "CANCELLED") and instance not in excused and before[instance] != after[instance]:
                self.fault(verb, state, "and has changed", before[instance], "to", after[instance])
            beside = answers.get((number, 2))
            if happening == "twice" and said != (f"{beside.code}/{beside.reason}" if beside else "OK"):
                self.fault(verb, "answers", said, "and beside it", beside)
            if state == "SUCCEEDED" and verb == "CreateVolumeSnapshot":
                self.done |= {body["requestId"]}
            if state == "SUCCEEDED" and verb in ("DeleteVolumeSnapshot", "DetachVolume", "SwapVolume", "Spawn", "Destroy"):
                self.done -= {key for key in self.done if self.snapshots[key][0] == instance}
            if state in ("SUCCEEDED", "FAILED") and not cut and self.chance.random() < 0.5:
                self.repeat(verb, body, said, after)
        asked_of = {instance for _, instance, _ in asked}
        for instance in set(self.instances) - asked_of - excused:
            if before[instance] != after[instance]:
                self.fault("nobody asked", instance, "but it changed", before[instance], "to", after[instance])
        return "; ".join(told)

    def repeat(self, verb, body, said, after):
        answers = {}
        self.ask(verb, body, answers, 0)
        again = f"{answers[0].code}/{answers[0].reason}" if answers[0] else "OK"
        if again != said:
            self.fault(verb, "answered", said, "and repeated", again)
        if {instance: self.host.view(instance) for instance in self.instances} != after:
            self.fault(verb, "repeated has changed something")

    def one(self, number):
        self.turn = f"turn {number}"
        asked = self.plan()
        if not asked:
            return
        happening = self.chance.choices(list(HAPPENINGS), list(HAPPENINGS.values()))[0]
        answers, threads, before = {}, [], self.views
        for key, (verb, _, body) in enumerate(asked):
            for times in (1, 2) if happening == "twice" else (1,):
                own = key if times == 1 else (key, 2)
                threads.append(threading.Thread(target=self.ask, args=(verb, body, answers, own)))
                threads[-1].start()
        victim = self.happen(happening)
        for thread in threads:
            thread.join()
        if happening == "crash":
            for _ in range(self.chance.choice([0, 0, 0, 1, 2])):
                self.host.start()
                time.sleep(self.chance.choice(MOMENTS))
                self.host.crash()
            self.host.start()
            took = self.host.wait()
            if took > SOON:
                self.fault(f"the server was ready after {took:.0f} s only")
        self.settled = self.host.settled()
        self.views = self.look()
        told = self.judge(asked, answers, happening, victim, before, self.views)
        states = " ".join(view["power"] + "r" * view["rescued"] if view else "-" for view in self.views.values())
        print(f"{number:4} {happening:8} {told} | {states}", flush=True)

    def run(self, turns):
        self.host.start()
        self.host.wait()
        self.views = self.look()
        for number in range(turns):
            self.one(number)
        self.turn = "at the end"
        for instance in self.instances:
            self.host.call("Destroy", {"instanceId": instance})
        if any(self.look().values()):
            self.fault("instances are left")
        for line in re.findall(r".*panicked.*", open(self.host.log.name, errors="replace").read()):
            self.fault(line)


def chance_bits(chance):
    return chance.getrandbits(128)


def kill(pid):
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        pass


def main():
    server, guest, *rest = sys.argv[1:]
    seed = int(rest[0]) if rest else random.SystemRandom().randrange(10**6)
    turns = int(rest[1]) if rest[1:] else 100
    with tempfile.TemporaryDirectory() as stubs:
        host = Host(os.path.abspath(server), Contract(stubs))
        atexit.register(host.end)
        print(f"seed {seed}, {turns} turns, {host.folder}", flush=True)
        soak = Soak(host, os.path.abspath(guest), seed)
        soak.run(turns)
    print(f"{len(soak.faults)} faults", *soak.faults, sep="\n- ")
    if soak.faults:
        sys.exit(f"see {host.folder}")
    host.end()
    shutil.rmtree(host.folder)


main()
