//! The scripts of `deploy/setup` where a machine lacks something: which RocksDB they take, why, and what they leave behind.
//!
//! The scripts' own functions run, with programs of the test's in front of the machine's. Nothing is fetched or compiled.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use lockstep_tests::cluster::program;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// How long scripts may run: a few seconds on a free machine. What they wait for must not come to more.
const DEADLINE: Duration = Duration::from_secs(60);
/// Reads the scripts, without running one.
const SCRIPTS: &str = "set -euo pipefail
. deploy/setup/env.sh
for part in output packages rocksdb rocksdb_release rocksdb_source estimate; do . deploy/setup/$part.sh; done
";
/// What `env.sh` set for this test's own process.
const SET_BY_ENV: [&str; 7] = [
    "CARGO_BUILD_BUILD_DIR",
    "CARGO_TARGET_DIR",
    "LOCKSTEP_BIN",
    "LOCKSTEP_PEERS",
    "LOCKSTEP_ROCKSDB",
    "ROCKSDB_LIB_DIR",
    "ROCKSDB_STATIC",
];
/// Says whether the library was fetched, and else why not.
const FETCH: &str =
    r#"if fetch_rocksdb; then echo fetched; else echo "not: $ROCKSDB_NOT_FETCHED"; fi"#;
/// In place of the real work: says what is done, and that it is there then.
const STUBS: &str = "
fetch_rocksdb() { echo fetching; shared_rocksdb_is_sound() { true; }; }
build_rocksdb() {
    echo compiling
    mkdir -p $LOCKSTEP_ROCKSDB_STATIC && touch $LOCKSTEP_ROCKSDB_STATIC/librocksdb.a
    static_rocksdb_is_sound() { true; }
}
";
/// A Maven that runs; what it does when asked for an archive is to be added.
const MAVEN: &str = "#!/bin/sh\n[ \"$1\" = --version ] && exit 0\n";

/// A machine of the test's: a cache, and programs that come before the real ones.
struct Machine {
    directory: TempDir,
}

impl Machine {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        fs::create_dir(directory.path().join("bin")).expect("a directory");
        fs::create_dir(directory.path().join("cache")).expect("a directory");
        Self { directory }
    }

    /// With a program of this text.
    fn with(self, name: &str, text: &str) -> Self {
        let path = self.directory.path().join("bin").join(name);
        fs::write(&path, text).expect("a program");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("may run");
        self
    }

    fn cache(&self) -> PathBuf {
        self.directory.path().join("cache")
    }

    /// With a file in the cache.
    fn with_cached(self, name: &str, text: &str) -> Self {
        let path = self.cache().join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, text).expect("a file");
        self
    }

    /// Runs a script with these variables; gives what it prints.
    fn run_with(&self, variables: &[(&str, &str)], script: &str) -> String {
        let path = std::env::var("PATH").expect("a path");
        let bin = self.directory.path().join("bin");
        let mut bash = Command::new("bash");
        for name in SET_BY_ENV {
            bash.env_remove(name);
        }
        // Not pipes: a process that outlives the scripts would hold them open.
        let (said, warned) = (self.directory.path().join("out"), self.directory.path().join("err"));
        let child = bash
            .arg("-c")
            .arg(format!("{SCRIPTS}{script}"))
            .current_dir(root())
            .env("PATH", format!("{}:{path}", bin.display()))
            .env("LOCKSTEP_CACHE", self.cache())
            .envs(variables.iter().copied())
            .stdout(File::create(&said).expect("a file"))
            .stderr(File::create(&warned).expect("a file"))
            .spawn()
            .expect("bash runs");
        let is_in_time = ends_in_time(child);
        let text = [said, warned].map(|file| fs::read(file).expect("what was said")).concat();
        let text = String::from_utf8(text).expect("text");
        assert!(is_in_time, "the scripts go on after {DEADLINE:?}:\n{text}");
        text
    }

    /// The process that a program of the machine's left its number of, if it runs.
    fn left_running(&self) -> Option<Pid> {
        let pid = fs::read_to_string(self.cache().join("pid")).ok()?;
        let is_there = Path::new("/proc").join(pid.trim()).exists();
        pid.trim().parse().ok().filter(|_| is_there).map(Pid::from_raw)
    }

    fn run(&self, script: &str) -> String {
        self.run_with(&[], script)
    }

    /// Fails unless fetching ends without a library, for this reason.
    fn check_not_fetched(&self, before: &str, reason: &str) {
        let said = self.run(&format!("{before}\n{FETCH}"));
        assert!(said.contains(&format!("not: {reason}")), "expected {reason:?} in:\n{said}");
        let left: Vec<_> = fs::read_dir(self.cache())
            .expect("the cache")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .filter(|name| name.starts_with("rocksdb"))
            .collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Only where a test fails.
        if let Some(pid) = self.left_running() {
            kill(pid, Signal::SIGKILL).ok();
        }
    }
}

/// Waits for a process; false if it had to be ended.
fn ends_in_time(mut child: Child) -> bool {
    let begin = Instant::now();
    while child.try_wait().expect("it can be waited for").is_none() {
        if begin.elapsed() >= DEADLINE {
            child.kill().expect("it ends");
            child.wait().expect("it ends");
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the root")
}

/// The value that `rocksdb_release.sh` gives a name by `readonly NAME="…"`.
fn pinned(name: &str) -> String {
    let script = fs::read_to_string(root().join("deploy/setup/rocksdb_release.sh")).expect("text");
    let begin = format!("readonly {name}=\"");
    let line = script.lines().find_map(|line| line.strip_prefix(&begin));
    line.unwrap_or_else(|| panic!("nothing sets {name}")).trim_end_matches('"').to_owned()
}

#[test]
fn fetched_rocksdb_is_the_version_that_the_crate_wraps() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("text");
    let lock: toml::Table = lock.parse().expect("TOML");
    let packages = lock["package"].as_array().expect("packages");
    let sys = packages.iter().find(|package| package["name"].as_str() == Some("librocksdb-sys"));
    let version = sys.expect("it is locked")["version"].as_str().expect("a version");
    let (_, wrapped) = version.split_once('+').expect("it names RocksDB's own version");
    assert_eq!(
        pinned("ROCKSDB_RELEASE"),
        wrapped,
        "new versions and checksums are wanted in deploy/setup/rocksdb_release.sh; until then every machine compiles RocksDB"
    );
}

#[test]
fn another_version_in_the_lock_file_is_not_fetched() {
    let reason = format!(
        "Cargo.lock has version 99.0.0 and deploy/setup/rocksdb_release.sh pins {}",
        pinned("ROCKSDB_RELEASE")
    );
    Machine::new().check_not_fetched("LOCKSTEP_ROCKSDB_VERSION=99.0.0", &reason);
}

#[test]
fn machines_without_a_library_in_the_release_are_named() {
    let machine = Machine::new().with("uname", "#!/bin/sh\necho Linux mips64\n");
    machine.check_not_fetched("", "its release has no library for Linux mips64");
    let machine = Machine::new().with("getconf", "#!/bin/sh\nexit 1\n");
    machine.check_not_fetched("", "its release needs glibc 2.17; here is another libc");
    let machine = Machine::new().with("getconf", "#!/bin/sh\necho glibc 2.12\n");
    machine.check_not_fetched("", "its release needs glibc 2.17; here is glibc 2.12");
}

#[test]
fn maven_that_is_missing_is_named_where_nothing_may_be_installed() {
    let machine = Machine::new()
        .with("mvn", "#!/bin/sh\necho 'JAVA_HOME is not defined' >&2\nexit 1\n")
        .with("id", "#!/bin/sh\necho 1000\n");
    machine.check_not_fetched("", "Maven does not run here (as root: apt-get install -y maven)");
}

#[test]
fn maven_that_cannot_be_installed_is_no_end() {
    let machine = Machine::new()
        .with("mvn", "#!/bin/sh\nexit 1\n")
        .with("apt-get", "#!/bin/sh\necho 'no archive answers' >&2\nexit 100\n")
        .with("id", "#!/bin/sh\necho 0\n");
    machine.check_not_fetched("", "Maven does not run here");
}

#[test]
fn maven_that_fetches_nothing_says_why() {
    let failing = format!("{MAVEN}echo '[ERROR] could not be resolved'\nexit 1\n");
    let machine = Machine::new().with("mvn", &failing);
    machine.check_not_fetched("", "Maven could not fetch it ([ERROR] could not be resolved)");
}

#[test]
fn archive_that_is_not_the_one_pinned_is_not_used() {
    let lying = format!(
        "{MAVEN}for option; do case \"$option\" in
            -DoutputDirectory=*) library=\"${{option#*=}}\" ;;
            -Dmaven.repo.local=*) repository=\"${{option#*=}}\" ;;
        esac; done
        archive=\"$repository/org/rocksdb/rocksdbjni/{release}\"
        mkdir -p \"$library\" \"$archive\"
        for name in librocksdbjni-linux64 librocksdbjni-linux-aarch64; do echo evil >\"$library/$name.so\"; done
        echo evil >\"$archive/rocksdbjni-{release}.jar\"
        mkdir mark-of-maven\n",
        release = pinned("ROCKSDB_RELEASE")
    );
    let machine = Machine::new().with("mvn", &lying);
    machine.check_not_fetched("", "the archive that came is not the one pinned");
    // The archive's checksum is right, and what was unpacked is not.
    let evil = "a3f2c4b6";
    let before = format!(
        "sha256sum() {{ case \"$1\" in *.jar) echo \"{} $1\" ;; *) echo \"{evil} $1\" ;; esac; }}",
        pinned("ROCKSDB_RELEASE_SHA256")
    );
    machine.check_not_fetched(&before, "the library in the archive is not the one pinned");
    let mark = root().join("mark-of-maven");
    assert!(fs::remove_dir(mark).is_err(), "Maven writes into the tree");
}

#[test]
fn rocksdb_is_compiled_where_it_cannot_be_fetched() {
    let machine = Machine::new().with("getconf", "#!/bin/sh\nexit 1\n");
    let script = format!("real=$(declare -f fetch_rocksdb){STUBS}eval \"$real\"\nrequire_rocksdb");
    let said = machine.run(&script);
    assert!(said.contains("RocksDB is compiled here instead, because its release needs"), "{said}");
    assert!(said.contains("\ncompiling\n"), "{said}");
}

#[test]
fn rocksdb_is_compiled_where_that_is_asked_for() {
    let library = format!("rocksdb-{}-shared/librocksdb.so", pinned("ROCKSDB_RELEASE"));
    let machine = Machine::new().with_cached(&library, "there");
    let variables = [("LOCKSTEP_ROCKSDB", "source")];
    let script = format!("{STUBS}require_rocksdb\necho \"$ROCKSDB_LIB_DIR\"");
    let said = machine.run_with(&variables, &script);
    assert!(said.contains("compiling") && !said.contains("fetching"), "{said}");
    assert!(said.trim_end().ends_with("-static"), "{said}");
    let said = machine.run_with(&[("LOCKSTEP_ROCKSDB", "sources")], "require_rocksdb");
    assert!(said.contains("error: LOCKSTEP_ROCKSDB=sources is unknown"), "{said}");
}

#[test]
fn library_in_the_cache_decides_how_cargo_links() {
    let linked = "echo \"${ROCKSDB_LIB_DIR##*-} ${ROCKSDB_STATIC-unset}\"";
    let release = pinned("ROCKSDB_RELEASE");
    let shared = format!("rocksdb-{release}-shared/librocksdb.so");
    let compiled = format!("rocksdb-{release}-static/librocksdb.a");
    // An earlier shell's variable does not count.
    let told = [("ROCKSDB_STATIC", "1")];

    let machine = Machine::new();
    assert_eq!(machine.run_with(&told, linked), "shared unset\n");
    let machine = machine.with_cached(&compiled, "there");
    assert_eq!(machine.run(linked), "static 1\n");
    let machine = machine.with_cached(&shared, "there");
    assert_eq!(machine.run_with(&told, linked), "shared unset\n");
    assert_eq!(machine.run_with(&[("LOCKSTEP_ROCKSDB", "source")], linked), "static 1\n");
    let own = [("ROCKSDB_LIB_DIR", "/opt/rocksdb-own"), ("ROCKSDB_STATIC", "1")];
    assert_eq!(machine.run_with(&own, linked), "own 1\n");
}

#[test]
fn library_that_was_damaged_in_the_cache_is_fetched_again() {
    let library = format!("rocksdb-{}-shared/librocksdb.so", pinned("ROCKSDB_RELEASE"));
    let machine = Machine::new().with_cached(&library, "torn");
    let said = machine.run(&format!("{STUBS}require_rocksdb"));
    assert_eq!(said, "fetching\n");
}

#[test]
fn program_takes_the_library_beside_itself_before_that_of_the_cache() {
    let place = tempfile::tempdir().expect("a directory");
    let moved = place.path().join("lockstep");
    fs::copy(program(), &moved).expect("a copy");
    if !needed(&moved).contains("librocksdb") {
        // RocksDB was compiled here, and is in the program.
        return;
    }
    let library = program().with_file_name("librocksdb.so");
    let beside = place.path().join("librocksdb.so");
    fs::copy(library, &beside).expect("a copy");
    let expected = format!("librocksdb.so => {} ", beside.display());
    assert!(needed(&moved).contains(&expected), "{}", needed(&moved));
}

/// The libraries of a program, and where the loader finds them when cargo does not help it.
fn needed(program: &Path) -> String {
    let mut ldd = Command::new("ldd");
    let output = ldd.arg(program).env_remove("LD_LIBRARY_PATH").output().expect("ldd runs");
    String::from_utf8(output.stdout).expect("text")
}

/// A machine whose cargo, Go and npm are these; the rest of a build is real.
fn building(cargo: &str, go: &str, npm: &str) -> Machine {
    let cargo = format!("{CARGO}{cargo}");
    let go = format!("{GO}{go}");
    Machine::new().with("cargo", &cargo).with("go", &go).with("npm", npm)
}

/// Answers setup's questions; what a build does is to be added.
const CARGO: &str = "#!/bin/bash
case $1 in --version) echo cargo 1.99.0 && exit ;; fetch) exit ;; esac
";
/// Answers all but `go build`, which is to be added.
const GO: &str = "#!/bin/bash
case \"$*\" in
*GOVERSION*) echo go1.99.0 && exit ;;
'list -x'*) echo one request >&2 && exit ;;
'list -m'*)
    allocs=$LOCKSTEP_CACHE/op-deployer/pkg/deployer/integration_test/testdata
    mkdir -p $allocs && touch $allocs/allocs-l2-v160-1.json.gz && echo $LOCKSTEP_CACHE && exit ;;
esac
";
/// Builds a program that runs.
const GO_BUILDS: &str = "while [ \"$1\" != -o ]; do shift; done
echo some/package >&2
printf '#!/bin/sh\\n' >$2 && chmod +x $2
";
/// Fetches an anvil that runs.
const NPM: &str = "#!/bin/bash
bin=$2/node_modules/anvil/bin
mkdir -p $bin && printf '#!/bin/sh\\n' >$bin/anvil && chmod +x $bin/anvil
";
/// Goes on for longer than a test, and says which process it is.
const FOR_EVER: &str = "echo $$ >$LOCKSTEP_CACHE/pid && exec sleep 1000\n";

/// Waits until that has begun.
const AWAIT_OTHER: &str =
    "for _ in {1..300}; do [ -e $LOCKSTEP_CACHE/pid ] && break; sleep 0.1; done";

/// Builds with what runs beside it. Gives what was said, the exit code, and the machine.
fn build(machine: &Machine) -> (String, i32) {
    let target = machine.cache().join("clone");
    let target = target.to_str().expect("text");
    let own = [("ROCKSDB_LIB_DIR", "/opt/rocksdb-own"), ("CARGO_TARGET_DIR", target)];
    let script = "code=0\ndeploy/setup/build.sh --tests --peers || code=$?\necho \"exit $code\"";
    let said = machine.run_with(&own, script);
    let code = said.lines().find_map(|line| line.strip_prefix("exit ")).expect("an exit code");
    let code = code.parse().expect("a number");
    (said, code)
}

/// Files in the cache whose name begins so.
fn cached(machine: &Machine, begin: &str) -> Vec<String> {
    let names = fs::read_dir(machine.cache()).expect("the cache");
    let names = names.map(|entry| entry.expect("an entry").file_name().into_string());
    names.map(|name| name.expect("text")).filter(|name| name.starts_with(begin)).collect()
}

#[test]
fn build_makes_the_programs_beside_ours_and_leaves_nothing_else() {
    let machine = building("printf '    Building [==>] 1/2: a\\r'\n", GO_BUILDS, NPM);
    let (said, code) = build(&machine);
    assert_eq!(code, 0, "{said}");
    let peers = cached(&machine, "peers-");
    let bin = machine.cache().join(peers.first().expect("the programs")).join("bin");
    for name in ["op-node", "op-batcher", "op-conductor", "op-geth", "genesis", "anvil"] {
        assert!(bin.join(name).is_file(), "{name} is missing:\n{said}");
    }
    assert!(cached(&machine, "build.").is_empty(), "logs were left behind");
    assert!(!said.contains("Building"), "cargo's bar is shown:\n{said}");
    assert!(machine.cache().join("clone/lockstep-tests-done").exists(), "{said}");
}

#[test]
fn build_that_fails_shows_all_that_cargo_said_and_ends_what_runs_beside_it() {
    let cargo = format!(
        "{AWAIT_OTHER}
        printf '   Compiling a v0.1.0\\n    Building [==>] 1/2: a\\rwarning: unused\\n\\nerror: no such type\\n'
        printf '   Compiling the C part of it\\n    Blocking at the end'
        exit 101\n"
    );
    let machine = building(&cargo, FOR_EVER, NPM);
    let (said, code) = build(&machine);
    assert_eq!(code, 101, "{said}");
    let expected = "warning: unused\n\nerror: no such type\n   Compiling the C part of it\n    Blocking at the end\n";
    assert!(said.contains(expected), "{said}");
    assert!(!said.contains("Compiling a v0.1.0"), "{said}");
    assert_eq!(machine.left_running(), None, "Go goes on");
    assert!(!machine.cache().join("clone/lockstep-build-done").exists(), "it counts as built");
}

#[test]
fn program_beside_ours_that_cannot_be_built_ends_the_build_at_once() {
    let npm = format!("#!/bin/bash\n{AWAIT_OTHER}\necho 'no such package' && exit 1\n");
    let machine = building(FOR_EVER, GO_BUILDS, &npm);
    let (said, code) = build(&machine);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("no such package"), "{said}");
    assert!(said.contains("error: the programs beside ours were not built"), "{said}");
    assert_eq!(machine.left_running(), None, "cargo goes on");
}

#[test]
fn estimate_goes_from_nothing_to_all() {
    for part in ["build", "tests"] {
        let script =
            format!("for done in 0 1 310 590 600 619 620; do cargo_percent {part} $done 620; done");
        let said = Machine::new().run(&script);
        let percents: Vec<u32> = said.lines().map(|line| line.parse().expect("a number")).collect();
        assert_eq!(percents.first(), Some(&0), "{part}: {said}");
        assert_eq!(percents.last(), Some(&100), "{part}: {said}");
        assert!(percents.is_sorted(), "{part}: {said}");
        // The last units are our own crates, or the tests: much is left when few are.
        assert!((10..=75).contains(&percents[3]), "{part}: {said}");
    }
}

#[test]
fn estimate_follows_what_this_machine_does() {
    // Half of the work took ten minutes, so about as much is left; and time goes on where nothing is finished.
    let script = "expect build
        SECONDS=600; reach build 50; estimate; echo \"$remaining\"
        SECONDS=840; estimate; echo \"$remaining\"
        SECONDS=5000; estimate; echo \"$remaining\"";
    let said = Machine::new().run(script);
    let lines: Vec<&str> = said.lines().collect();
    let minutes = |line: &str| -> u32 {
        line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("minutes")
    };
    assert!((8..=11).contains(&minutes(lines[0])), "{said}");
    assert_eq!(minutes(lines[0]) - minutes(lines[1]), 4, "{said}");
    assert_eq!(lines[2], "about a minute left", "{said}");
}
