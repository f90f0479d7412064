//! One node of a cluster as a process of its own: started, stopped, killed, frozen, asked.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use lockstep_consensus::guard::Origin;
use lockstep_core::header::Header;
use lockstep_core::types::{EntryId, Height};
use lockstep_node::config::{NodeConfig, NodeOptions};
use lockstep_node::init;
use lockstep_proto::convert::ingress::EntryState;
use lockstep_rpc::client::{Endpoint, IngressClient, LogClient};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::landed;
use crate::wait::until;

/// How long a node has to end after SIGTERM.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// How long a node has to serve after its start.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// How long one HTTP answer may take.
const HTTP_PATIENCE: Duration = Duration::from_secs(5);

/// A node's ports on 127.0.0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The mesh.
    pub mesh: u16,
    /// gRPC.
    pub grpc: u16,
    /// Health and metrics.
    pub http: u16,
}

/// One node. Its process ends with it.
#[derive(Debug)]
pub struct Node {
    /// Its name in messages.
    pub name: String,
    /// Its ports.
    pub ports: Ports,
    /// Arguments of the shell's `ulimit` for its process, from the next start on: `-Sn 1024` for few descriptors.
    pub ulimit: Option<&'static str>,
    directory: PathBuf,
    child: Option<Child>,
}

/// An answer of the HTTP listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

impl Node {
    /// A node with its files in `directory`, not started.
    #[must_use]
    pub const fn new(name: String, directory: PathBuf, ports: Ports) -> Self {
        Self { name, ports, ulimit: None, directory, child: None }
    }

    /// Writes its options.
    pub fn configure(&self, options: &NodeOptions) {
        let text = toml::to_string(options).expect("options are TOML");
        fs::write(self.directory.join("node.toml"), text).expect("the options are written");
    }

    /// Makes its guard.
    ///
    /// # Errors
    /// As `lockstep init`.
    pub fn init(&self, origin: Origin) -> Result<(), String> {
        let config = NodeConfig::load(&self.directory.join("node.toml"));
        let config = config.map_err(|error| error.to_string())?;
        init::make(&config, origin).map(drop).map_err(|error| format!("{error:#}"))
    }

    /// Directory of all that it writes but its log.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.directory.join("home")
    }

    /// Directory of its log and consensus log.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.home().join("data")
    }

    /// Directory of its guard.
    #[must_use]
    pub fn guard(&self) -> PathBuf {
        self.home().join("guard")
    }

    /// What it logged so far, over all its lives.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(self.log_file())
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    /// The file of its log.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.directory.join("node.log")
    }

    /// Whether its process was started and not ended by the test.
    #[must_use]
    pub const fn is_started(&self) -> bool {
        self.child.is_some()
    }

    /// Starts the process; it does not serve yet.
    pub fn spawn(&mut self, program: &Path) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new().append(true).create(true).open(self.log_file());
        let log = log.expect("the log is opened");
        let mut command = match self.ulimit {
            None => Command::new(program),
            Some(arguments) => {
                let mut shell = Command::new("sh");
                shell
                    .arg("-c")
                    .arg(format!("ulimit {arguments} && exec \"$0\" \"$@\""))
                    .arg(program);
                shell
            }
        };
        let child = command
            .arg("node")
            .arg("--config")
            .arg(self.directory.join("node.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log is opened"))
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        self.child = Some(child);
    }

    /// Waits until it serves.
    pub async fn until_serving(&mut self) {
        let what = format!("{} serves", self.name);
        until(&what, START_PATIENCE, async || {
            if let Some(status) =
                self.child.as_mut().and_then(|child| child.try_wait().ok().flatten())
            {
                panic!("{} ended with {status}:\n{}", self.name, self.last_words());
            }
            self.try_get("/healthz").await
        })
        .await;
    }

    /// The last lines of its log.
    #[must_use]
    pub fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n")
    }

    /// The id of its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().and_then(Child::id).expect("it runs")
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().try_into().expect("a process id"));
        kill(pid, signal).expect("the signal is sent");
    }

    /// `kill -9`; returns when the process is gone.
    pub async fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        let mut child = self.child.take().expect("it runs");
        child.wait().await.expect("it ends");
    }

    /// Stops it by SIGTERM, and waits for its end.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.until_ended(STOP_PATIENCE).await
    }

    /// Waits until its process has ended.
    pub async fn until_ended(&mut self, patience: Duration) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let ended = tokio::time::timeout(patience, child.wait()).await;
        let ended = ended.unwrap_or_else(|_| panic!("{} goes on running", self.name));
        ended.expect("it ends")
    }

    /// Stops all of its threads where they are.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets them go on.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Its gRPC endpoint.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.grpc)
    }

    /// A client of its log.
    pub async fn log_client(&self) -> LogClient {
        LogClient::new(Endpoint::new(self.endpoint()).connect().await.expect("it serves"))
    }

    /// A client of its ingress.
    pub async fn ingress(&self) -> IngressClient {
        IngressClient::new(Endpoint::new(self.endpoint()).connect().await.expect("it serves"))
    }

    /// Its newest header, if there is one and it can be asked.
    pub async fn head(&self) -> Option<Header> {
        let channel = Endpoint::new(self.endpoint()).connect().await.ok()?;
        Some(LogClient::new(channel).head().await.ok()?.header)
    }

    /// Its newest height; 0 before the first, and while it can't be asked.
    pub async fn height(&self) -> Height {
        self.head().await.map_or(Height::GENESIS, |header| header.height)
    }

    /// Waits until it has decided `height`.
    pub async fn until_height(&self, height: Height, patience: Duration) {
        let channel = Endpoint::new(self.endpoint()).connect().await.expect("it serves");
        let log = LogClient::new(channel);
        let what = format!("{} decides height {height}", self.name);
        until(&what, patience, async || {
            let head = log.clone().head().await.map_or(Height::GENESIS, |head| head.header.height);
            (head >= height).then_some(())
        })
        .await;
    }

    /// The state of an entry; `None` if it knows nothing of it.
    pub async fn status(&self, id: EntryId) -> Option<EntryState> {
        landed::state(&mut self.ingress().await, id).await
    }

    /// An answer of the HTTP listener.
    pub async fn get(&self, path: &str) -> Answer {
        self.try_get(path).await.unwrap_or_else(|| panic!("{} does not answer {path}", self.name))
    }

    async fn try_get(&self, path: &str) -> Option<Answer> {
        let get = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.ports.http)).await.ok()?;
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.ok()?;
            let (head, body) = answer.split_once("\r\n\r\n")?;
            let status = head.split_whitespace().nth(1)?.parse().ok()?;
            Some(Answer { status, body: body.to_owned() })
        };
        tokio::time::timeout(HTTP_PATIENCE, get).await.ok().flatten()
    }

    /// A counter or gauge. One with labels is named as it is served: `name_total{label="value"}`.
    pub async fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics").await.body;
        let value = text.lines().find_map(|line| {
            let (found, value) = line.split_once(' ')?;
            (found == name || found.strip_suffix("_total") == Some(name))
                .then(|| value.trim().to_owned())
        });
        let value = value.unwrap_or_else(|| panic!("{} has no metric {name}:\n{text}", self.name));
        value.parse().unwrap_or_else(|_| panic!("{name} is {value}"))
    }
}
