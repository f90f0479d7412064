//! Ordinary wallets on the public port: viem and `cast` send several transactions in a row and wait for their receipts.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{PATIENCE, Run};

/// The versions that were tried.
const VIEM: &str = "viem@2.21.0";
const CAST: &str = "@foundry-rs/cast-linux-amd64@1.7.1";

const SCRIPT: &str = r#"
import { createWalletClient, createPublicClient, http, webSocket, defineChain, parseEther } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
const [url, ws, key] = process.argv.slice(2)
const chain = defineChain({ id: 901, name: 'devnet', nativeCurrency: { name: 'Ether', symbol: 'ETH', decimals: 18 }, rpcUrls: { default: { http: [url] } } })
const account = privateKeyToAccount(key)
for (const transport of [http(url), webSocket(ws)]) {
  const wallet = createWalletClient({ account, chain, transport })
  const reader = createPublicClient({ chain, transport, pollingInterval: 200 })
  const hashes = []
  for (let i = 0; i < 5; i++) hashes.push(await wallet.sendTransaction({ to: '0x7777777777777777777777777777777777777777', value: parseEther('0.001') }))
  for (const hash of hashes) {
    const receipt = await reader.waitForTransactionReceipt({ hash, timeout: 30_000 })
    if (receipt.status !== 'success') throw new Error(`${hash} ${receipt.status}`)
    console.log(hash, receipt.blockNumber.toString())
  }
}
process.exit(0)
"#;

/// A directory with a package of npm, kept between runs.
fn package(name: &str) -> PathBuf {
    let cache =
        std::env::var_os("LOCKSTEP_CACHE").expect("LOCKSTEP_CACHE; see deploy/setup/env.sh");
    let plain = name.trim_start_matches('@').replace(['@', '/'], "-");
    let directory = Path::new(&cache).join(plain);
    if !directory.join("node_modules").exists() {
        std::fs::create_dir_all(&directory).expect("a directory");
        let npm = Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", name])
            .current_dir(&directory)
            .status();
        assert!(npm.expect("npm is installed").success(), "npm installs {name}");
    }
    directory
}

#[tokio::test(flavor = "multi_thread")]
async fn viem_sends_and_gets_receipts_over_http_and_websocket() {
    let run = Run::one("wallet", 1).await;
    run.head_at(901, 12, PATIENCE).await;
    let directory = package(VIEM);
    let script = directory.join("lockstep.mjs");
    std::fs::write(&script, SCRIPT).expect("a file");
    let chain = run.chain(901);
    let key = format!("0x{}", run.accounts[0].secret_hex());
    let mut node = tokio::process::Command::new("node");
    node.arg(&script)
        .args([chain.wallet_url(), chain.wallet_ws_url(), key])
        .current_dir(&directory);
    let output = node.output().await.expect("node is installed");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "viem failed: {said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("0x")).count(), 10, "{said}");
    println!("{said}");
    run.expect_audited(901);
    run.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cast_sends_and_gets_receipts() {
    let run = Run::one("cast", 1).await;
    run.head_at(901, 12, PATIENCE).await;
    let program = package(CAST).join("node_modules/@foundry-rs/cast-linux-amd64/bin/cast");
    let chain = run.chain(901);
    let (key, url) = (format!("0x{}", run.accounts[0].secret_hex()), chain.wallet_url());
    let cast = async |arguments: &[&str]| {
        let mut cast = tokio::process::Command::new(&program);
        let output = cast.args(arguments).args(["--rpc-url", &url]).output().await.expect("cast");
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "cast {arguments:?}: {said} {error}");
        said
    };
    let to = "0x7878787878787878787878787878787878787878";
    let send = ["send", to, "--value", "1", "--private-key", &key];
    let mut hashes = Vec::new();
    for nonce in ["0", "1", "2"] {
        // It asks for the nonce of the newest block, as with any node, so who is in a hurry names it.
        hashes.push(cast(&[&send[..], &["--async", "--nonce", nonce]].concat()).await);
    }
    for hash in &hashes {
        assert_eq!(cast(&["receipt", hash, "status"]).await, "true");
    }
    // This one waits for its receipt by itself.
    let said = cast(&send).await;
    assert!(said.contains("1 (success)"), "{said}");
    assert_eq!(cast(&["balance", to]).await, "4");
    assert_eq!(cast(&["nonce", &run.accounts[0].address().to_string()]).await, "4");
    assert_eq!(cast(&["chain-id"]).await, "901");
    run.expect_audited(901);
    run.end().await;
}
