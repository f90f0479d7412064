//! Tests of processes, with a shell's `sleep` as the process.

use super::*;

/// A program that runs for a time which no other test's does, and ends at SIGTERM.
fn sleeper(directory: &Path, seconds: &str) -> Process {
    Process::new(Program {
        name: "sleeper".to_owned(),
        file: "sleep".into(),
        arguments: vec![seconds.to_owned()],
        log: directory.join("log"),
        home: None,
    })
}

#[test]
fn word_is_quoted_where_a_shell_needs_it() {
    let cases = [
        ("/a/b-1.toml", "/a/b-1.toml"),
        ("--url=http://127.0.0.1:1", "--url=http://127.0.0.1:1"),
        ("/a b/c", "'/a b/c'"),
        ("/it's", "'/it'\\''s'"),
        ("$HOME", "'$HOME'"),
        (" ", "' '"),
        ("", "''"),
    ];
    for (word, expected) in cases {
        assert_eq!(quoted(word), expected);
    }
}

#[tokio::test]
async fn process_runs_until_it_is_stopped_or_killed() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut process = sleeper(directory.path(), "1000.0625");
    assert!(!process.is_running());
    for is_killed in [false, true] {
        process.start().expect("starts");
        assert!(process.is_running());
        assert!(process.start().is_err(), "runs already");
        let ended = if is_killed { process.kill().await } else { process.stop().await };
        ended.expect("ends");
        assert!(!process.is_running());
        assert_eq!(process.pid(), None);
    }
}

#[tokio::test]
async fn process_that_ignores_the_request_is_made_to_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let script = "trap '' TERM; echo ready; while true; do sleep 0.05; done";
    let mut process = sleeper(directory.path(), "");
    process.program_mut().file = "sh".into();
    process.program_mut().arguments = vec!["-c".to_owned(), script.to_owned()];
    process.start().expect("starts");
    while !process.program().last_words().contains("ready") {
        sleep(POLL_INTERVAL).await;
    }
    let began = Instant::now();
    process.stop().await.expect("ends");
    assert!(began.elapsed() >= TERM_PATIENCE);
}

#[tokio::test]
async fn process_that_was_started_by_hand_is_seen_and_stopped() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut process = sleeper(directory.path(), "1000.125");
    process.write_script(directory.path()).expect("is written");
    let by_hand = Command::new("sh").arg(process.start_line()).kill_on_drop(true).spawn();
    let mut by_hand = by_hand.expect("runs");
    while !process.is_running() {
        sleep(POLL_INTERVAL).await;
    }
    assert_eq!(process.pid(), None);
    process.signal(Signal::SIGTERM);
    by_hand.wait().await.expect("ends");
    assert!(!process.is_running());
}

#[tokio::test]
async fn process_of_a_directory_is_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut process = sleeper(directory.path(), "");
    let file = directory.path().join("log");
    fs::write(&file, "").expect("writes");
    process.program_mut().file = "tail".into();
    process.program_mut().arguments = vec!["-f".to_owned(), file.display().to_string()];
    process.start().expect("starts");
    // It has its own arguments only after it was started for good.
    let found = loop {
        let found = using(directory.path(), &["tail"]);
        if !found.is_empty() {
            break found;
        }
        sleep(POLL_INTERVAL).await;
    };
    assert_eq!(found, [(process.pid().expect("runs"), "tail".to_owned())]);
    assert_eq!(using(directory.path(), &["op-geth"]), []);
    assert_eq!(using(directory.path(), &["-f"]).len(), 1);
    process.kill().await.expect("ends");
}

#[tokio::test]
async fn failure_names_the_program_and_has_its_last_words() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut process = sleeper(directory.path(), "never");
    let error = process.program().run_once().await.expect_err("fails").to_string();
    assert!(error.contains("sleeper failed") && error.contains("never"), "{error}");
    process.program_mut().file = "/nowhere/op-node".into();
    let error = format!("{:#}", process.start().expect_err("fails"));
    assert!(error.contains("starting sleeper: /nowhere/op-node"), "{error}");
}
