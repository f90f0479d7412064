//! Ordinary wallets on the public port: viem sends several transactions in a row and waits for their receipts.

use std::path::Path;
use std::process::Command;

use crate::run::{PATIENCE, Run};

/// The version that was tried.
const VIEM: &str = "viem@2.21.0";

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

/// viem by npm, kept between runs.
fn viem() -> std::path::PathBuf {
    let cache =
        std::env::var_os("LOCKSTEP_CACHE").expect("LOCKSTEP_CACHE; see deploy/setup/env.sh");
    let directory = Path::new(&cache).join(VIEM.replace('@', "-"));
    if !directory.join("node_modules/viem").exists() {
        std::fs::create_dir_all(&directory).expect("a directory");
        let npm = Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", VIEM])
            .current_dir(&directory)
            .status();
        assert!(npm.expect("npm is installed").success(), "npm installs {VIEM}");
    }
    directory
}

#[tokio::test(flavor = "multi_thread")]
async fn viem_sends_and_gets_receipts_over_http_and_websocket() {
    let run = Run::one("wallet", 1).await;
    run.head_at(901, 12, PATIENCE).await;
    let directory = viem();
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
