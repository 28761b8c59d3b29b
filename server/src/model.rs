//! Ids, specs, states and units: the words that every module shares. No I/O, no decisions.

mod cpu;
mod event;
mod id;
mod layer;
mod login;
mod node;
mod operation;
mod progress;
mod secret;
mod spec;
mod state;
mod unit;
mod vif;
mod volume;

pub use cpu::{CpuFit, CpuModel, CpuTimes, CpuTopology};
pub use event::{About, Entry, Event, EventKind, IoAction, JobStatus, JobType, Standing};
pub use id::{
    DiskId, IdFault, InstanceId, InterfaceId, NodeId, OperationId, RequestId, SnapshotId, VolumeId,
};
pub use layer::{Layer, Layers, VolumeSnapshot};
pub use login::{Login, SecretName, SecretUse};
pub use node::{NodeRecord, NodeSwitch};
pub use operation::{OperationRecord, OperationState, Verb};
pub use progress::{Amount, Edge, Phase, ProgressEvent};
pub use secret::Secret;
pub use spec::{
    Architecture, BlockDevice, BlockSource, DirectKernel, DiskBus, DiskFormat, Flavor, ImageFile,
    ImageProperties, ImageSource, InjectedFile, InstanceSpec, Limits, MEMORY_MODULE, MachineType,
    OsType, Pin, VideoModel, VirtType, WaitFor, WaitTarget,
};
pub use state::{InstanceRecord, InstanceState, PowerState, Rescue, Wanted};
pub use unit::Bytes;
pub use vif::{Address, MacAddress, NicModel, Route, Subnet, TapName, Vif, VifKind};
pub use volume::{Bounds, Iscsi, NbdServer, Portal, Qos, Rbd, Seen, Volume, VolumeTarget};
