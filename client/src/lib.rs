//! Client of `computedriver.v1`, the contract between a cloud and a hypervisor host.
//!
//! [`Client`] is one handle for all services. It adds to the generated clients what every caller needs:
//!
//! - a deadline for each kind of call, and a watchdog for streams ([`Builder`]);
//! - repeats of idempotent calls that found the server away ([`RetryPolicy`]);
//! - long calls followed to their end across lost connections ([`Follow`]);
//! - events and counters followed across them too ([`Events`], [`Samples`]), counters put together ([`StatsView`]);
//! - errors that say what to do next ([`Error`]).
//!
//! ```no_run
//! use computedriver_client::{Client, v1};
//!
//! # async fn example() -> Result<(), computedriver_client::Error> {
//! let client = Client::connect("unix:/run/computelet/computelet.sock").await?;
//! let request = v1::SpawnRequest {
//!     instance_id: "4dfa7a5e-8a52-4a0e-9c0c-7b5f3f6a2d11".into(),
//!     flavor: Some(v1::Flavor { vcpus: 1, memory_mib: 256, ..Default::default() }),
//!     image: Some(v1::Image {
//!         image_id: "cirros".into(),
//!         location: "file:///srv/images/cirros.qcow2".into(),
//!         format: v1::DiskFormat::Qcow2.into(),
//!         ..Default::default()
//!     }),
//!     ..Default::default()
//! };
//! let instance = client.spawn(request, |progress| eprintln!("{:?}", progress.phase())).await?;
//! println!("{} runs", instance.instance_id);
//! # Ok(())
//! # }
//! ```

mod builder;
mod client;
mod endpoint;
mod error;
mod events;
mod layers;
mod method;
mod page;
mod progress;
mod resources;
mod retry;
mod samples;
mod stats;
mod watch;

pub use builder::Builder;
pub use client::Client;
pub use computedriver::v1;
pub use endpoint::{DEFAULT_ENDPOINT, ENDPOINT_VARIABLE, default_endpoint};
pub use error::{Error, Kind, Quota, Violation};
pub use events::{EventNews, Events};
pub use layers::Calls;
pub use progress::{Follow, LongRequest, News};
pub use resources::Resources;
pub use retry::{RetryPolicy, service_config};
pub use samples::{SampleNews, SampleRequest, Samples};
pub use stats::{InstanceUsage, Rates, Standing, StatsView};
pub use watch::Console;

/// What the library's calls answer with.
pub type Result<T, E = Error> = std::result::Result<T, E>;
