//! The delay line: every TCP packet between the validators is held for 25 ms, so that a decision's message delays show.
//!
//! The program runs itself again in a network namespace of its own, where the firewall passes the loopback's packets to
//! a queue (NFQUEUE), and a thread lets each go when its time has come. Nothing outside the namespace notices, and it
//! goes with its last process. That needs root, `unshare`, `ip` and `iptables-legacy`.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use eyre::{WrapErr as _, ensure, eyre};
use nfq::{Message, Queue, Verdict};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use super::Args;

/// How long a packet is held: δ, one way.
pub const ONE_WAY: Duration = Duration::from_millis(25);
/// The queue's number, in a namespace of its own.
const QUEUE: u16 = 0;
/// Packets that may wait in the kernel for the line.
const QUEUE_PACKETS_MAX: u32 = 200_000;
/// How often the line looks at its packets.
const TICK: Duration = Duration::from_micros(100);
/// Round trips from which the line's own delay is told.
const ROUND_TRIPS: usize = 21;

/// Runs the row inside a namespace; what it printed.
///
/// # Errors
/// Why it could not run: the last line of what it said.
pub async fn outside(args: &Args) -> eyre::Result<String> {
    let program = std::env::current_exe().wrap_err("looking for this program")?;
    let child = Command::new("unshare")
        .arg("--net")
        .arg(program)
        .args(["bench", "--delay-line", "--dir"])
        .arg(&args.dir)
        .arg("--memory-dir")
        .arg(&args.memory_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .wrap_err("running unshare")?;
    let output = Running(child).output().await?;
    let (out, err) = (lines(&output.stdout), lines(&output.stderr));
    let last = |lines: Vec<String>| lines.into_iter().next_back();
    if output.status.success() {
        return last(out).ok_or_else(|| eyre!("it said nothing"));
    }
    Err(eyre!(last(err).unwrap_or_else(|| output.status.to_string())))
}

fn lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

/// The inner program. Dropped before it ended, it is told to stop, so that it stops its validators.
struct Running(Child);

impl Running {
    async fn output(mut self) -> eyre::Result<std::process::Output> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let (mut out, mut err) = (self.0.stdout.take(), self.0.stderr.take());
        let read_out = async {
            if let Some(out) = &mut out {
                out.read_to_end(&mut stdout).await.wrap_err("reading its output")?;
            }
            eyre::Ok(())
        };
        let read_err = async {
            if let Some(err) = &mut err {
                err.read_to_end(&mut stderr).await.wrap_err("reading its errors")?;
            }
            eyre::Ok(())
        };
        tokio::try_join!(read_out, read_err)?;
        let status = self.0.wait().await.wrap_err("waiting for it")?;
        Ok(std::process::Output { status, stdout, stderr })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(pid) = self.0.id().and_then(|pid| i32::try_from(pid).ok()) {
            // One that has just ended needs no signal.
            kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap_or_default();
        }
    }
}

/// A running delay line. Dropping it ends it; then no packet passes any more.
#[derive(Debug)]
pub struct Line {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// What it was measured to hold a packet for, one way.
    pub measured: Duration,
}

impl Line {
    /// Puts the loopback of this network namespace, which must be of our own making, behind the line.
    ///
    /// # Errors
    /// If a tool or a right is missing.
    pub async fn start() -> eyre::Result<Self> {
        tool("ip", &["link", "set", "lo", "up"]).await?;
        // A real connection between two sites is never idle for so long that TCP begins slowly again.
        tool("sysctl", &["-w", "net.ipv4.tcp_slow_start_after_idle=0"]).await?;
        let queue = open().wrap_err("opening a packet queue")?;
        // On its way in: a packet held on its way out counts against its sender's socket, and TCP would wait for it.
        let rule = ["-A", "INPUT", "-i", "lo", "-p", "tcp", "-j", "NFQUEUE", "--queue-num", "0"];
        tool("iptables-legacy", &rule).await?;
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let thread = std::thread::Builder::new()
            .name("delay-line".to_owned())
            .spawn(move || hold(queue, &over))
            .wrap_err("starting a thread")?;
        let mut line = Self { is_over, thread: Some(thread), measured: Duration::ZERO };
        line.measured = one_way().await.wrap_err("measuring the delay line")?;
        Ok(line)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It ends within a tick; should it have panicked, there is nothing to hold any more.
            thread.join().unwrap_or_default();
        }
    }
}

async fn tool(name: &str, args: &[&str]) -> eyre::Result<()> {
    let said = Command::new(name).args(args).stdin(Stdio::null()).output().await;
    let said =
        said.wrap_err_with(|| format!("{name} is missing (Debian: iproute2, procps, iptables)"))?;
    let reason = String::from_utf8_lossy(&said.stderr);
    ensure!(said.status.success(), "{name} {}: {}", args.join(" "), reason.trim());
    Ok(())
}

fn open() -> std::io::Result<Queue> {
    let mut queue = Queue::open()?;
    queue.bind(QUEUE)?;
    queue.set_copy_range(QUEUE, 0)?;
    queue.set_queue_max_len(QUEUE, QUEUE_PACKETS_MAX)?;
    queue.set_recv_gso(QUEUE, true)?;
    queue.set_nonblocking(true);
    Ok(queue)
}

/// Holds packets, first in, first out.
fn hold(mut queue: Queue, is_over: &AtomicBool) {
    let mut held: VecDeque<(Instant, Message)> = VecDeque::new();
    while !is_over.load(Ordering::Relaxed) {
        // An error is "nothing there" or "the kernel's buffer was full"; both pass.
        while let Ok(message) = queue.recv() {
            held.push_back((Instant::now(), message));
        }
        while held.front().is_some_and(|(since, _)| since.elapsed() >= ONE_WAY)
            && let Some((_, mut message)) = held.pop_front()
        {
            message.set_verdict(Verdict::Accept);
            // A packet that is not let go is sent again by TCP.
            queue.verdict(message).unwrap_or_default();
        }
        std::thread::sleep(TICK);
    }
}

/// Half of the median round trip of one byte over the loopback.
async fn one_way() -> eyre::Result<Duration> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let echo = async {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        for _ in 0..ROUND_TRIPS {
            let byte = stream.read_u8().await?;
            stream.write_u8(byte).await?;
        }
        eyre::Ok(())
    };
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut times = Vec::with_capacity(ROUND_TRIPS);
        for _ in 0..ROUND_TRIPS {
            let start = Instant::now();
            stream.write_u8(0).await?;
            stream.read_u8().await?;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        times.get(ROUND_TRIPS / 2).copied().ok_or_else(|| eyre!("no round trip"))
    };
    let ((), round_trip) = tokio::try_join!(echo, ask)?;
    Ok(round_trip.checked_div(2).unwrap_or_default())
}
