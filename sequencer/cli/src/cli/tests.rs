//! Tests of the command line: what it takes, and what means nothing.

use super::*;
use clap::CommandFactory as _;

const HASH: &str = "0x0101010101010101010101010101010101010101010101010101010101010101";

fn parse(line: &str) -> Result<Cli, clap::Error> {
    let words = line.split_whitespace().map(|word| if word == "HASH" { HASH } else { word });
    Cli::try_parse_from(["lockstep"].into_iter().chain(words))
}

#[test]
fn definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_is_taken() {
    let lines = [
        "keys generate --out keys",
        "keys show --keys keys",
        "genesis new --name a --validators v.toml --validators w.toml --chain 901 --chain 902:opaque",
        "genesis new --name a --validators v.toml --chains c.toml --out g.toml --timestamp-ms 1",
        "genesis show --genesis g.toml",
        "genesis validator-entry --keys keys --address /ip4/1.2.3.4/tcp/1 --power 3",
        "node --config node.toml",
        "submit tx --chain 901 --raw 0x01",
        "submit tx --chain 901 --raw-file a.hex --opaque --wait decided --expires-ms 60000",
        "submit tx --chain 901 - --all --endpoint http://a:1 --endpoint http://b:1",
        "submit bundle --file bundle.json --json",
        "status HASH",
        "status --chain 901 --tx HASH",
        "watch HASH --json",
        "slice --chain 901 --from 3 --to 9",
        "slice --chain 901 --follow",
        "verify --genesis g.toml",
        "verify --genesis g.toml --chain 901 --chain 902 --from 5 --follow --trust-now",
        "verify --trusted-header HASH --chain 901 --to 9 --endpoint https://a:1 --ca ca.pem",
        "audit --genesis g.toml --chain 901 --rpc http://a:1",
        "audit --trusted-header HASH --chain 901 --rpc http://a:1 --jwt s --from 5 --to 9 --endpoint http://b:1 --json",
        "audit --genesis g.toml --chain 901 --rpc http://a:1 --follow --trust-now --all-chains-rpc 902=http://b:1",
        "devnet",
        "devnet --validators 7 --chains 3 --block-time 1 --dir d --base-port 30000 --no-load",
        "devnet --verifiers --no-load",
        "devnet --verifiers checked",
        "devnet --log-only --validators 7 --chains 3 --keep --rate 50",
        "completions bash",
        "--json status HASH",
    ];
    for line in lines {
        if let Err(error) = parse(line) {
            panic!("{line}\n{error}");
        }
    }
}

#[test]
fn what_means_nothing_is_refused() {
    let lines = [
        "",
        "nonsense",
        "keys generate",
        "keys generate --out a --key 0x01",
        "genesis new --name a",
        "genesis new --name a --validators v.toml --chain x",
        "genesis validator-entry --keys keys --address /ip4/1.2.3.4/tcp/1 --power 0",
        "node",
        "submit tx --chain 901",
        "submit tx --chain 0 --raw 0x01",
        "submit tx --raw 0x01",
        "submit tx --chain 901 --raw 0x01 --raw-file a",
        "submit tx --chain 901 --raw 0x01 -",
        "submit tx --chain 901 file",
        "submit tx --chain 901 --raw 0x01 --expires-ms 0",
        "submit tx --chain 901 --raw 0x01 --expires-ms 60001",
        "submit tx --chain 901 --raw 0x01 --wait stored",
        "submit bundle",
        "status",
        "status 0x01",
        "status --tx HASH",
        "status --chain 901",
        "status HASH --chain 901 --tx HASH",
        "watch",
        "slice",
        "slice --chain 901 --from 0",
        "slice --chain 901 --to 9 --follow",
        "verify",
        "verify --genesis g.toml --trusted-header HASH",
        "verify --trusted-header HASH",
        "verify --trusted-header HASH --chain 901 --trust-now",
        "audit --genesis g.toml --chain 901",
        "audit --chain 901 --rpc http://a:1",
        "audit --genesis g.toml --chain 901 --rpc https://a:1",
        "audit --genesis g.toml --chain 901 --rpc http://a:1 --follow --to 9",
        "audit --genesis g.toml --chain 901 --rpc http://a:1 --all-chains-rpc 902",
        "devnet --validators 0",
        "devnet --validators 101",
        "devnet --chains 0",
        "devnet --log-only --rate 0",
        "devnet --rate 50",
        "devnet --keep",
        "devnet --block-time 3",
        "devnet --log-only --block-time 1",
        "devnet --log-only --verifiers",
        "devnet --verifiers all",
        "completions cmd",
    ];
    for line in lines {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn defaults_are_those_of_a_node_on_this_machine() {
    let Command::Submit(submit::Command::Tx(args)) =
        parse("submit tx --chain 1 --raw 01").expect("is taken").command
    else {
        panic!("submits a transaction");
    };
    assert_eq!(args.to.endpoints.urls, ["http://127.0.0.1:26601"]);
    assert_eq!((args.to.expires_ms, args.to.wait), (30_000, submit::WaitFor::Received));
    let Command::Devnet(args) = parse("devnet").expect("is taken").command else {
        panic!("a devnet");
    };
    assert_eq!((args.validators, args.chains, args.block_time), (4, 2, 2));
    assert_eq!((args.log_only, args.verifiers, args.keep), (false, None, false));
    assert_eq!(args.dir, std::path::Path::new("devnet"));
}
