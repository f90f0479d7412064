//! A devnet while it runs: started, introduced, watched, loaded and verified. Ends only by a fault, or when it is dropped.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use eyre::{WrapErr as _, bail};
use futures::future::{join_all, try_join_all};
use lockstep_core::types::ChainId;
use lockstep_node::output::{Output, Progress};
use lockstep_node::verifier::Proven;
use lockstep_rpc::client::remote::Remote;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use crate::bundles::{self, Landed, NEWS_MAX, News};
use crate::devnet::Args;
use crate::follow::{EVENTS_MAX, Event, follow};
use crate::health;
use crate::introduction::Introduction;
use crate::layout::Place;
use crate::process::{self, Process};
use crate::traffic::{self, Counters};
use crate::view::{self, ChainRow, Picture, ValidatorRow, View};
use crate::world::World;

/// Bundles that are shown.
const BUNDLES_SHOWN: usize = 3;

/// Starts a world and shows what happens, until a fault.
///
/// # Errors
/// If a process does not start, or the result cannot be shown.
pub async fn run(args: &Args, world: &mut World, output: &mut Output) -> eyre::Result<()> {
    let mut progress = Progress::default();
    world.start(&mut |what| progress.update(format_args!("starting: waiting for {what}"))).await?;
    progress.clear();
    let lockstep = process::quoted(&process::own_program()?.display().to_string());
    output.show(&Introduction::of(world, &lockstep))?;
    let mut tasks = JoinSet::new();
    let (sender, mut events) = mpsc::channel(EVENTS_MAX);
    let genesis = Arc::new(world.layout.genesis.clone());
    let chains: Vec<ChainId> = genesis.chains.iter().map(|chain| chain.id).collect();
    for &chain in &chains {
        tasks.spawn(follow(Arc::clone(&genesis), chain, world.endpoints(), sender.clone()));
    }
    let counters = Arc::new(Counters::default());
    let (sender, mut news) = mpsc::channel(NEWS_MAX);
    spawn_load(args, world, Arc::clone(&counters), &mut tasks, &sender).await?;
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
            // `sender` is kept here: the channel does not close.
            Some(news) = news.recv() => seen.hear(news, output)?,
            _ = ticks.tick() => view.show(&seen.picture(world).await, output)?,
        }
    }
}

/// What is sent to the network: bundles that its chains execute; to a log without chains, transfers that nobody does.
async fn spawn_load(
    args: &Args,
    world: &World,
    counters: Arc<Counters>,
    tasks: &mut JoinSet<()>,
    news: &mpsc::Sender<News>,
) -> eyre::Result<()> {
    for rollup in world.rollups() {
        tasks.spawn(bundles::watch(rollup.clone(), news.clone()));
    }
    if args.no_load {
        return Ok(());
    }
    let endpoints = world.endpoints();
    let remotes = endpoints.iter().map(|url| Remote::connect(url, None));
    let remotes = try_join_all(remotes).await.wrap_err("connecting")?;
    if !world.rollups().is_empty() {
        tasks.spawn(bundles::run(world.rollups().to_vec(), remotes, news.clone()));
        return Ok(());
    }
    let chains = world.layout.genesis.chains.iter().map(|chain| chain.id).collect();
    let load = traffic::run(chains, remotes, args.rate, counters);
    tasks.spawn(async move {
        if let Err(error) = load.await {
            lockstep_node::output::note(format_args!("the load ended: {error:#}"));
        }
    });
    Ok(())
}

/// What was seen since the start.
struct Seen {
    start: Instant,
    chains: BTreeMap<u64, ChainRow>,
    bundles: u64,
    /// The last bundles that were followed into blocks, the oldest first.
    landed: VecDeque<Landed>,
    counters: Arc<Counters>,
    /// When the last picture was made, and its transactions.
    last: (Instant, u64),
}

impl Seen {
    fn new(chains: &[ChainId], counters: Arc<Counters>) -> Self {
        let row = |chain: &ChainId| (chain.0, ChainRow { chain: chain.0, ..ChainRow::default() });
        let start = Instant::now();
        let chains = chains.iter().map(row).collect();
        Self { start, chains, bundles: 0, landed: VecDeque::new(), counters, last: (start, 0) }
    }

    fn add(&mut self, proven: &Proven) {
        self.bundles = self.bundles.saturating_add(proven.first_legs);
        if let Some(row) = self.chains.get_mut(&proven.chain) {
            row.height = proven.last;
            row.transactions = row.transactions.saturating_add(proven.transactions);
            row.legs = row.legs.saturating_add(proven.legs);
        }
    }

    fn hear(&mut self, news: News, output: &mut Output) -> eyre::Result<()> {
        match news {
            News::Heads(chain, heads) => {
                if let Some(row) = self.chains.get_mut(&chain) {
                    row.heads = Some(heads.into());
                }
            }
            News::Bundle(landed) => {
                if !output.is_terminal() {
                    output.say(view::landed(&landed))?;
                }
                self.landed.push_back(landed);
                if self.landed.len() > BUNDLES_SHOWN {
                    self.landed.pop_front();
                }
            }
        }
        Ok(())
    }

    async fn picture(&mut self, world: &mut World) -> Picture {
        let places = world.layout.places.clone();
        let (validators, others) = split(world.processes_mut(), places.len());
        let rows =
            join_all(places.iter().zip(validators).map(|(place, one)| row(place, one))).await;
        let down = others.iter_mut().filter_map(|one| {
            let is_down = !one.is_running();
            is_down.then(|| one.name().to_owned())
        });
        let down = down.collect();
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
            landed: self.landed.iter().cloned().collect(),
            down,
        }
    }

    fn rate(&mut self, transactions: u64) -> u64 {
        let (at, before) = std::mem::replace(&mut self.last, (Instant::now(), transactions));
        let ms = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        let more = transactions.saturating_sub(before).saturating_mul(1_000);
        more.checked_div(ms).unwrap_or_default()
    }
}

/// The validators' processes are the first.
fn split(processes: &mut [Process], count: usize) -> (&mut [Process], &mut [Process]) {
    processes.split_at_mut(count.min(processes.len()))
}

async fn row(place: &Place, validator: &mut Process) -> ValidatorRow {
    let is_running = validator.is_running();
    let health = if is_running { health::ask(place.ports.http).await } else { None };
    ValidatorRow {
        index: place.index,
        process: if is_running { "up" } else { "down" },
        health: health.map(Into::into),
        grpc: place.endpoint(),
        http: format!("http://127.0.0.1:{}", place.ports.http),
    }
}
