//! A devnet while it runs: started, introduced, watched, loaded and verified. Ends only by a fault, or when it is dropped.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use eyre::{WrapErr as _, bail};
use futures::future::{join_all, try_join_all};
use lockstep_core::types::ChainId;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};

use super::follow::{EVENTS_MAX, Event, follow};
use super::layout::Layout;
use super::process::Validator;
use super::traffic::{self, Counters};
use super::view::{self, ChainRow, Picture, ValidatorRow, View};
use super::{Args, health};
use crate::commands::endpoint::Remote;
use crate::output::{Output, Progress};
use crate::verifier::Proven;

/// How long the validators have to serve.
const START_PATIENCE: Duration = Duration::from_secs(90);
/// How often they are asked meanwhile.
const START_INTERVAL: Duration = Duration::from_millis(200);

/// Starts the validators and shows what happens, until a fault.
///
/// # Errors
/// If a validator does not start, or the result cannot be shown.
pub async fn run(
    args: &Args,
    layout: &Layout,
    validators: &mut [Validator],
    output: &mut Output,
) -> eyre::Result<()> {
    for validator in validators.iter_mut() {
        validator.start()?;
    }
    wait_until_serving(validators).await?;
    output.show(&Introduction::of(layout, validators)?)?;
    let mut tasks = JoinSet::new();
    let (sender, mut events) = mpsc::channel(EVENTS_MAX);
    let endpoints: Vec<String> = layout.places.iter().map(super::layout::Place::endpoint).collect();
    let genesis = Arc::new(layout.genesis.clone());
    let chains: Vec<ChainId> = genesis.chains.iter().map(|chain| chain.id).collect();
    for &chain in &chains {
        tasks.spawn(follow(Arc::clone(&genesis), chain, endpoints.clone(), sender.clone()));
    }
    let counters = Arc::new(Counters::default());
    if !args.no_load {
        let remotes = endpoints.iter().map(|url| Remote::connect(url, None));
        let remotes = try_join_all(remotes).await.wrap_err("connecting")?;
        let load = traffic::run(chains.clone(), remotes, args.rate, Arc::clone(&counters));
        tasks.spawn(async move {
            if let Err(error) = load.await {
                crate::output::note(format_args!("the load ended: {error:#}"));
            }
        });
    }
    let mut seen = Seen::new(&chains, counters);
    let mut ticks = interval(view::interval(output));
    let mut view = View::default();
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(Event::Proven(proven)) => seen.add(&proven),
                Some(Event::Alarm(alarm)) => bail!("the light client refuses what a validator says: {alarm}"),
                None => bail!("nobody verifies any more"),
            },
            _ = ticks.tick() => view.show(&seen.picture(validators).await, output)?,
        }
    }
}

async fn wait_until_serving(validators: &mut [Validator]) -> eyre::Result<()> {
    let mut progress = Progress::default();
    let deadline = Instant::now().checked_add(START_PATIENCE);
    loop {
        let mut serving = 0usize;
        let mut states = String::new();
        for validator in validators.iter_mut() {
            let index = validator.place.index;
            if !validator.is_running() {
                progress.clear();
                let (log, words) = (validator.place.log.display(), validator.last_words());
                bail!("validator {index} ended at its start; the end of {log}:\n{words}");
            }
            let health = health::ask(validator.place.ports.http).await;
            let state = health.map_or("starting".to_owned(), |health| health.state);
            serving = serving.saturating_add(usize::from(state == "serving"));
            states.push_str(&format!(" {index}:{state}"));
        }
        if serving == validators.len() {
            return Ok(());
        }
        if deadline.is_none_or(|deadline| Instant::now() >= deadline) {
            progress.clear();
            bail!("not all validators serve after {} s:{states}", START_PATIENCE.as_secs());
        }
        progress.update(format_args!("starting:{states}"));
        sleep(START_INTERVAL).await;
    }
}

/// What was seen since the start.
struct Seen {
    start: Instant,
    chains: BTreeMap<u64, ChainRow>,
    bundles: u64,
    counters: Arc<Counters>,
    /// When the last picture was made, and its transactions.
    last: (Instant, u64),
}

impl Seen {
    fn new(chains: &[ChainId], counters: Arc<Counters>) -> Self {
        let row = |chain: &ChainId| {
            (chain.0, ChainRow { chain: chain.0, height: 0, transactions: 0, legs: 0 })
        };
        let start = Instant::now();
        let chains = chains.iter().map(row).collect();
        Self { start, chains, bundles: 0, counters, last: (start, 0) }
    }

    fn add(&mut self, proven: &Proven) {
        self.bundles = self.bundles.saturating_add(proven.first_legs);
        if let Some(row) = self.chains.get_mut(&proven.chain) {
            row.height = proven.last;
            row.transactions = row.transactions.saturating_add(proven.transactions);
            row.legs = row.legs.saturating_add(proven.legs);
        }
    }

    async fn picture(&mut self, validators: &mut [Validator]) -> Picture {
        let rows = join_all(validators.iter_mut().map(row)).await;
        let chains: Vec<ChainRow> = self.chains.values().cloned().collect();
        let transactions =
            chains.iter().fold(0u64, |sum, row| sum.saturating_add(row.transactions));
        let heights = rows.iter().filter_map(|row| Some(row.health.as_ref()?.height));
        let height = heights.max().unwrap_or_default();
        Picture {
            seconds: self.start.elapsed().as_secs(),
            height,
            transactions,
            transactions_per_second: self.rate(transactions),
            bundles: self.bundles,
            accepted: self.counters.accepted.load(Ordering::Relaxed),
            refused: self.counters.refused.load(Ordering::Relaxed),
            validators: rows,
            chains,
        }
    }

    fn rate(&mut self, transactions: u64) -> u64 {
        let (at, before) = std::mem::replace(&mut self.last, (Instant::now(), transactions));
        let ms = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        let more = transactions.saturating_sub(before).saturating_mul(1_000);
        more.checked_div(ms).unwrap_or_default()
    }
}

async fn row(validator: &mut Validator) -> ValidatorRow {
    let ports = validator.place.ports;
    let is_running = validator.is_running();
    let health = if is_running { health::ask(ports.http).await } else { None };
    ValidatorRow {
        index: validator.place.index,
        process: if is_running { "up" } else { "down" },
        health: health.map(Into::into),
        grpc: validator.place.endpoint(),
        http: format!("http://127.0.0.1:{}", ports.http),
    }
}

/// What a user needs to know once.
#[derive(Debug, Serialize)]
struct Introduction {
    network: String,
    directory: String,
    is_resumed: bool,
    chains: Vec<u64>,
    validators: Vec<ValidatorIntroduced>,
    verify: String,
}

/// One validator, once.
#[derive(Debug, Serialize)]
struct ValidatorIntroduced {
    index: u16,
    mesh: u16,
    grpc: String,
    health: String,
    metrics: String,
    log: String,
    /// Starts it again after it was stopped or killed.
    start: String,
    pid: Option<u32>,
}

impl Introduction {
    fn of(layout: &Layout, validators: &[Validator]) -> eyre::Result<Self> {
        let introduce = |validator: &Validator| {
            let place = &validator.place;
            let http = format!("http://127.0.0.1:{}", place.ports.http);
            Ok(ValidatorIntroduced {
                index: place.index,
                mesh: place.ports.mesh,
                grpc: place.endpoint(),
                health: format!("{http}/healthz"),
                metrics: format!("{http}/metrics"),
                log: place.log.display().to_string(),
                start: validator.command()?,
                pid: validator.pid(),
            })
        };
        let endpoint =
            layout.places.first().map(super::layout::Place::endpoint).unwrap_or_default();
        let genesis = layout.genesis_file.display();
        let program = super::process::program_quoted().wrap_err("introducing")?;
        Ok(Self {
            network: layout.genesis.network_id().to_string(),
            directory: layout.directory.display().to_string(),
            is_resumed: layout.is_resumed,
            chains: layout.genesis.chains.iter().map(|chain| chain.id.0).collect(),
            validators: validators.iter().map(introduce).collect::<eyre::Result<_>>()?,
            verify: format!("{program} verify --endpoint {endpoint} --genesis {genesis} --follow"),
        })
    }
}

impl Display for Introduction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let chains: Vec<String> = self.chains.iter().map(ToString::to_string).collect();
        writeln!(f, "network {}", self.network)?;
        let data = if self.is_resumed { "kept data" } else { "fresh data" };
        writeln!(f, "chains {}; {data} in {}", chains.join(", "), self.directory)?;
        for one in &self.validators {
            let ValidatorIntroduced { index, mesh, grpc, health, metrics, log, .. } = one;
            writeln!(f, "validator {index}")?;
            writeln!(f, "  gRPC {grpc}  mesh 127.0.0.1:{mesh}")?;
            writeln!(f, "  {health}  {metrics}")?;
            writeln!(f, "  log {log}")?;
        }
        writeln!(f, "\nkill a validator, and start it again:")?;
        for one in &self.validators {
            let pid = one.pid.map_or_else(String::new, |pid| format!("kill -9 {pid};  "));
            writeln!(f, "  {pid}{}", one.start)?;
        }
        writeln!(f, "\nverify what any of them says, trusting the genesis alone:")?;
        writeln!(f, "  {}", self.verify)?;
        write!(f, "\nCtrl-C stops all")
    }
}
