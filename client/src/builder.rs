//! How a [`Client`] is set up: where the server is, how long it waits, what it repeats.

use std::time::Duration;

use crate::client::Client;
use crate::error::Error;
use crate::layers::{Calls, Rules};
use crate::retry::{RetryPolicy, Throttle};
use crate::{Result, default_endpoint, endpoint};

/// A read is answered from memory or the server's store; 5 s means that the server is in trouble.
pub(crate) const READ: Duration = Duration::from_secs(5);
/// A unary change may wait for the hypervisor.
pub(crate) const CHANGE: Duration = Duration::from_secs(20);
/// A server sends a heartbeat after 15 s of nothing else; three missed ones are a dead connection.
const SILENCE: Duration = Duration::from_secs(45);
/// Long enough for a server to restart and recover, short enough that a person still waits.
const REJOIN: Duration = Duration::from_secs(120);
/// A host that does not accept a connection in this time is away.
const CONNECT: Duration = Duration::from_secs(5);
/// Notices a peer that vanished without closing; idle connections are not pinged, so that no server takes offence.
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings of a [`Client`]; each has a default that suits a host on the local network.
///
/// ```no_run
/// # async fn example() -> computedriver_client::Result<()> {
/// use std::time::Duration;
/// let client = computedriver_client::Client::builder()
///     .endpoint("http://127.0.0.1:9190")
///     .read_deadline(Duration::from_secs(2))
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    endpoint: Option<String>,
    read: Duration,
    change: Duration,
    silence: Duration,
    rejoin: Duration,
    connect: Duration,
    keepalive: Option<Duration>,
    retry: RetryPolicy,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            endpoint: None,
            read: READ,
            change: CHANGE,
            silence: SILENCE,
            rejoin: REJOIN,
            connect: CONNECT,
            keepalive: Some(KEEPALIVE),
            retry: RetryPolicy::default(),
        }
    }
}

impl Builder {
    /// The server's address. Default: [`default_endpoint`].
    #[must_use]
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// Deadline of unary calls that change nothing. Default: 5 s.
    #[must_use]
    pub fn read_deadline(mut self, deadline: Duration) -> Self {
        self.read = deadline;
        self
    }

    /// Deadline of unary calls that change something. Default: 20 s. The change goes on when it passes.
    #[must_use]
    pub fn change_deadline(mut self, deadline: Duration) -> Self {
        self.change = deadline;
        self
    }

    /// How long a stream may be silent before it counts as lost. Default: 45 s, three heartbeats.
    #[must_use]
    pub fn silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// How long a long call tries to join its operation again after it lost the server. Default: 2 minutes.
    #[must_use]
    pub fn rejoin_for(mut self, patience: Duration) -> Self {
        self.rejoin = patience;
        self
    }

    /// How long one attempt to connect may take. Default: 5 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect = timeout;
        self
    }

    /// How often a connection with calls on it is pinged when it is quiet. Default: 20 s; `None` never.
    #[must_use]
    pub fn keepalive(mut self, interval: Option<Duration>) -> Self {
        self.keepalive = interval;
        self
    }

    /// When calls are repeated. Default: [`RetryPolicy::default`].
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Connects, once. A connection lost later is made anew by the next call.
    ///
    /// # Errors
    /// `Invalid` for an address that cannot be read, `Unavailable` when no server answers there.
    pub async fn connect(self) -> Result<Client> {
        let (address, transport) = self.transport()?;
        let channel = transport
            .connect()
            .await
            .map_err(|e| Error::unreachable(&address, &e))?;
        Ok(self.client(address, channel))
    }

    /// Connects with the first call. Needs to run inside a tokio runtime.
    ///
    /// # Errors
    /// `Invalid` for an address that cannot be read.
    pub fn connect_lazy(self) -> Result<Client> {
        let (address, transport) = self.transport()?;
        let channel = transport.connect_lazy();
        Ok(self.client(address, channel))
    }

    fn transport(&self) -> Result<(String, tonic::transport::Endpoint)> {
        let address = self.endpoint.clone().unwrap_or_else(default_endpoint);
        let mut transport = endpoint::parse(&address)?
            .connect_timeout(self.connect)
            .user_agent(concat!("computedriver-client/", env!("CARGO_PKG_VERSION")))
            .map_err(|e| Error::unreachable(&address, &e))?;
        if let Some(interval) = self.keepalive {
            transport = transport
                .http2_keep_alive_interval(interval)
                .keep_alive_timeout(KEEPALIVE_TIMEOUT)
                .tcp_keepalive(Some(interval));
        }
        Ok((address, transport))
    }

    fn client(self, address: String, channel: tonic::transport::Channel) -> Client {
        let rules = Rules {
            read: self.read,
            change: self.change,
            silence: self.silence,
            throttle: Throttle::new(&self.retry),
            retry: self.retry,
        };
        Client::new(address, Calls::new(channel, rules), self.rejoin)
    }
}
