//! Tests of the devnet's directory: fresh, kept, in use, and not ours.

use lockstep_node::config::NodeConfig;

use super::*;

fn plan(directory: &Path) -> Plan {
    Plan {
        directory: directory.to_owned(),
        validators: 2,
        chains: Plan::open_chains(2),
        keep: false,
        base_port: None,
        port_blocks: 0,
    }
}

fn refused(plan: &Plan, expected: &str) {
    let error = format!("{:#}", Layout::prepare(plan).expect_err(expected));
    assert!(error.contains(expected), "{expected}\n{error}");
}

#[test]
fn fresh_directory_has_keys_genesis_and_options_that_are_valid() {
    let parent = tempfile::tempdir().expect("a directory");
    let directory = parent.path().join("devnet");
    let layout = Layout::prepare(&plan(&directory)).expect("is prepared");
    assert_eq!((layout.places.len(), layout.genesis.validators.len()), (2, 2));
    assert_eq!(
        layout.genesis.chains.iter().map(|chain| chain.id.0).collect::<Vec<_>>(),
        [901, 902]
    );
    for place in &layout.places {
        let config = NodeConfig::load(&place.config).expect("is valid");
        assert_eq!(
            config.genesis.canonicalize().expect("is there"),
            layout.genesis_file.canonicalize().expect("is there")
        );
        assert_eq!(config.grpc.listen.port(), place.ports.grpc);
    }
    layout.finish().expect("is removed");
    assert!(!directory.exists());
}

#[test]
fn directory_in_use_is_refused() {
    let parent = tempfile::tempdir().expect("a directory");
    let _first = Layout::prepare(&plan(parent.path())).expect("is prepared");
    refused(&plan(parent.path()), &format!("in use by process {}", std::process::id()));
}

#[test]
fn directory_with_other_files_is_left_alone() {
    let parent = tempfile::tempdir().expect("a directory");
    let file = parent.path().join("thesis.txt");
    fs::write(&file, "years of work").expect("writes");
    refused(&plan(parent.path()), "is not a devnet's");
    assert!(file.exists());
    assert_eq!(fs::read_dir(parent.path()).expect("reads").count(), 1, "nothing is added");
}

#[test]
fn kept_devnet_goes_on_and_others_are_refused() {
    let parent = tempfile::tempdir().expect("a directory");
    let keep = Plan { keep: true, ..plan(parent.path()) };
    let first = Layout::prepare(&keep).expect("is prepared");
    let network = first.genesis.network_id();
    assert!(!first.is_resumed);
    first.finish().expect("is kept");
    refused(&plan(parent.path()), "data that --keep kept");
    refused(&Plan { validators: 3, ..keep.clone() }, "has 2 validators and 2 chains");
    refused(&Plan { base_port: Some(2_000), ..keep.clone() }, "in its genesis");
    let second = Layout::prepare(&keep).expect("goes on");
    assert!(second.is_resumed);
    assert_eq!(second.genesis.network_id(), network);
}

#[test]
fn what_a_killed_devnet_left_is_replaced() {
    let parent = tempfile::tempdir().expect("a directory");
    let first = Layout::prepare(&plan(parent.path())).expect("is prepared");
    let network = first.genesis.network_id();
    drop(first);
    let second = Layout::prepare(&plan(parent.path())).expect("is prepared");
    assert_ne!(second.genesis.network_id(), network);
}

#[test]
fn validator_that_still_runs_is_named() {
    let parent = tempfile::tempdir().expect("a directory");
    let first = Layout::prepare(&plan(parent.path())).expect("is prepared");
    let home = first.places.last().expect("has two").home.clone();
    drop(first);
    let _validator = Home::lock(&home).expect("is free");
    let expected = format!(
        "validator 1 of an earlier devnet still runs: stop it with `kill {}`",
        std::process::id()
    );
    refused(&plan(parent.path()), &expected);
}
