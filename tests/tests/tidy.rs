//! The tree keeps its own rules: who may know whom, what each file must have, what may be depended on.
//!
//! It reads the manifests, the lock file and the sources. It does not check format or lints: rustfmt and clippy do.
//! Each check is one test that lists every offender; the checks themselves are tried on planted offences below.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lockstep_node::sidecar::SidecarOptions;
use serde_json::Value as Json;
use toml::{Table, Value as Toml};

/// Our crates and which of ours each may know. `*` is all.
const KNOWS: [(&str, &[&str]); 15] = [
    ("lockstep-core", &[]),
    ("lockstep-proto", &["lockstep-core"]),
    ("lockstep-engine", &["lockstep-core", "lockstep-proto"]),
    ("lockstep-consensus", &["lockstep-core", "lockstep-proto", "lockstep-engine"]),
    ("lockstep-execution", &["lockstep-core"]),
    // The last one for its tests.
    (
        "lockstep-rpc",
        &["lockstep-core", "lockstep-proto", "lockstep-execution", "lockstep-test-log"],
    ),
    ("lockstep-test-log", &["lockstep-core", "lockstep-proto", "lockstep-rpc"]),
    ("lockstep-wallet", &["lockstep-core", "lockstep-proto", "lockstep-execution", "lockstep-rpc"]),
    ("lockstep-audit", &["lockstep-core", "lockstep-proto", "lockstep-execution", "lockstep-rpc"]),
    (
        "lockstep-sidecar",
        &[
            "lockstep-core",
            "lockstep-proto",
            "lockstep-execution",
            "lockstep-rpc",
            "lockstep-wallet",
        ],
    ),
    (
        "lockstep-node",
        &[
            "lockstep-core",
            "lockstep-proto",
            "lockstep-consensus",
            "lockstep-execution",
            "lockstep-rpc",
            "lockstep-sidecar",
        ],
    ),
    (
        "lockstep-devnet",
        &[
            "lockstep-core",
            "lockstep-proto",
            "lockstep-consensus",
            "lockstep-execution",
            "lockstep-rpc",
            "lockstep-node",
        ],
    ),
    ("lockstep-cli", &["*"]),
    ("lockstep-tests", &["*"]),
    ("lockstep-sim", &["lockstep-core", "lockstep-engine", "lockstep-consensus"]),
];

/// Dependencies that only some of our crates may name. The first column is the beginning of the package's name.
const KEPT: [(&str, &[&str]); 9] = [
    ("arc-malachitebft", &["lockstep-engine"]),
    ("ractor", &["lockstep-engine"]),
    (
        "libp2p",
        &[
            "lockstep-engine",
            "lockstep-consensus",
            "lockstep-node",
            "lockstep-devnet",
            "lockstep-tests",
            "lockstep-sim",
        ],
    ),
    ("hdrhistogram", &["lockstep-devnet"]),
    ("nfq", &["lockstep-devnet"]),
    ("rocksdb", &["lockstep-consensus"]),
    ("librocksdb-sys", &["lockstep-consensus"]),
    (
        "tonic",
        &["lockstep-proto", "lockstep-rpc", "lockstep-node", "lockstep-test-log", "lockstep-tests"],
    ),
    (
        "axum",
        &[
            "lockstep-execution",
            "lockstep-rpc",
            "lockstep-wallet",
            "lockstep-sidecar",
            "lockstep-tests",
        ],
    ),
];

/// What the rules of the protocol must never reach, by however many steps.
const NEVER_IN_CORE: [&str; 8] =
    ["tokio", "prost", "libp2p", "rocksdb", "reqwest", "tonic", "hyper", "futures"];

/// Lines of a file, its tests not counted.
const FILE_LINES_MAX: usize = 500;

/// Where bounds are, and the file whose table says of each who pays for it and what happens at it.
const BOUNDS: [(&str, &str); 6] = [
    ("rpc/src", "rpc/README.md"),
    ("rpc/execution/src", "rpc/execution/README.md"),
    ("rpc/audit/src", "rpc/audit/README.md"),
    ("rpc/wallet/src", "rpc/wallet/README.md"),
    ("consensus/src", "consensus/README.md"),
    ("consensus/engine/src", "consensus/engine/README.md"),
];

/// File names that say nothing.
const EMPTY_NAMES: [&str; 5] = ["utils", "util", "common", "helpers", "misc"];

// ---- The tests -------------------------------------------------------------------------------------------------

#[test]
fn our_crates_know_only_whom_they_may() {
    expect_none("edges that the map of the workspace does not have", forbidden_edges(&edges()));
}

#[test]
fn heavy_dependencies_stay_behind_their_crate() {
    expect_none("dependencies in a crate that may not name them", misplaced(&edges()));
}

#[test]
fn the_core_reaches_no_io() {
    let tree = cargo(&["tree", "-p", "lockstep-core", "-e", "normal", "--prefix", "none"]);
    expect_none("packages in the normal tree of lockstep-core", forbidden_in_core(&tree));
}

#[test]
fn versions_are_in_the_root_manifest_only() {
    let offenders = members().iter().flat_map(|path| own_versions(path, &toml_of(path))).collect();
    expect_none("settings that a member has instead of the root", offenders);
}

#[test]
fn every_workspace_dependency_is_used() {
    let used: BTreeSet<String> =
        members().iter().flat_map(|path| dependencies(&toml_of(path)).into_keys()).collect();
    let root = toml_of(&root().join("Cargo.toml"));
    let declared = root["workspace"]["dependencies"].as_table().expect("a table");
    let unused = declared.keys().filter(|name| !used.contains(*name)).cloned().collect();
    expect_none("workspace dependencies that no member uses", unused);
}

#[test]
fn every_rust_file_says_what_it_is_for() {
    expect_none("files that do not begin with `//!`", check_files(&["rs"], no_module_docs));
}

#[test]
fn no_rust_file_is_too_long() {
    expect_none("files over 500 lines without tests", check_files(&["rs"], too_long));
}

#[test]
fn nothing_is_left_to_do() {
    let kinds = ["rs", "toml", "proto", "sh", "md", "yml", "yaml", "service", "Makefile", "run"];
    expect_none("leftovers", check_files(&kinds, leftovers));
}

#[test]
fn no_file_has_a_name_that_says_nothing() {
    let offenders = files().iter().filter_map(|path| empty_name(path)).collect();
    expect_none("file names", offenders);
}

#[test]
fn sample_configurations_parse() {
    let offenders = files()
        .iter()
        .filter(|path| path.starts_with(root().join("deploy")))
        .filter_map(|path| unreadable_sample(path, &read(path)))
        .collect();
    expect_none("samples in deploy/ that do not parse", offenders);
}

#[test]
fn every_decision_note_is_in_the_readme() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap_or_default();
    let offenders = files()
        .iter()
        .filter(|path| is_decision_note(path))
        .map(|path| shown(path))
        .filter(|path| !readme.contains(&format!("({path})")))
        .collect();
    expect_none("decision notes that the root README does not link", offenders);
}

#[test]
fn every_bound_is_in_the_table_of_its_crate() {
    let offenders = BOUNDS.iter().flat_map(|(directory, table)| {
        let rows = read(&root().join(table));
        let directory = root().join(directory);
        let is_ours = move |path: &PathBuf| {
            path.starts_with(&directory) && path.extension().is_some_and(|kind| kind == "rs")
        };
        let missing = move |path: PathBuf| missing_bounds(&path, &read(&path), &rows);
        files().into_iter().filter(is_ours).flat_map(missing)
    });
    expect_none("bounds that their crate's table does not have", offenders.collect());
}

#[test]
fn shell_scripts_parse() {
    let scripts = files().into_iter().filter(|path| {
        path.extension().is_some_and(|kind| kind == "sh") || path.ends_with(".ci/run")
    });
    let broken = scripts.filter(|path| {
        !Command::new("bash").arg("-n").arg(path).status().expect("bash runs").success()
    });
    expect_none("scripts that bash cannot read", broken.map(|path| shown(&path)).collect());
}

#[test]
fn every_dependency_has_an_allowed_licence_and_source() {
    let rules = toml_of(&root().join("deny.toml"));
    let offenders = packages().iter().filter_map(|package| refused(package, &rules)).collect();
    expect_none("packages that deny.toml does not allow", offenders);
}

#[test]
fn what_must_be_one_is_one() {
    let rules = toml_of(&root().join("deny.toml"));
    let lock = toml_of(&root().join("Cargo.lock"));
    expect_none("packages with several versions", several_versions(&lock, &rules));
}

// ---- The same checks on planted offences -----------------------------------------------------------------------

#[test]
fn a_forbidden_edge_is_found() {
    let edge = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    let found = forbidden_edges(&[
        edge("lockstep-rpc", "lockstep-consensus"),
        edge("lockstep-core", "lockstep-proto"),
        edge("lockstep-node", "lockstep-rpc"),
        edge("lockstep-unknown", "lockstep-core"),
        edge("lockstep-core", "thiserror"),
    ]);
    assert_eq!(found.len(), 3, "{found:?}");
    let found = misplaced(&[
        edge("lockstep-consensus", "arc-malachitebft-app"),
        edge("lockstep-rpc", "rocksdb"),
        edge("lockstep-engine", "arc-malachitebft-app"),
        edge("lockstep-core", "libp2p-stream"),
    ]);
    assert_eq!(found.len(), 3, "{found:?}");
    let found = forbidden_in_core(
        "thiserror v2.0.21\ntokio v1.54.1\ntokio-util v0.7.20\nlibp2p v0.56.0 (*)\n",
    );
    assert_eq!(found, ["tokio v1.54.1", "tokio-util v0.7.20", "libp2p v0.56.0 (*)"]);
}

#[test]
fn a_version_in_a_member_is_found() {
    let manifest: Table = "[package]\nversion = \"1\"\nedition.workspace = true\nrust-version.workspace = true\n\
        license.workspace = true\npublish.workspace = true\n[lints]\nworkspace = true\n[dependencies]\na = \"1\"\n\
        b.workspace = true\n[target.'cfg(unix)'.dev-dependencies]\nc = { path = \"x\" }\n"
        .parse()
        .expect("toml");
    let found = own_versions(Path::new("x/Cargo.toml"), &manifest);
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn an_offending_file_is_found() {
    let path = Path::new("x/src/a.rs");
    assert!(no_module_docs(path, "use std::fmt;\n//! Late.").is_some());
    assert!(no_module_docs(path, "\n//! For something.").is_none());
    let readme = "#![doc = include_str!(\"../README.md\")]";
    assert!(no_module_docs(path, readme).is_some());
    assert!(no_module_docs(Path::new("x/src/lib.rs"), readme).is_none());

    let body = "x\n".repeat(FILE_LINES_MAX);
    assert!(too_long(path, &body).is_none());
    assert!(too_long(path, &format!("x\n{body}")).is_some());
    assert!(too_long(path, &format!("{body}#[cfg(test)]\nmod tests {{\n}}\n")).is_none());
    assert!(too_long(path, &format!("#[cfg(test)]\nuse a::b;\n{body}")).is_some());
    assert!(too_long(Path::new("x/src/a/tests.rs"), &format!("x\n{body}")).is_none());

    let bounds = "const A_MAX: usize = 1;\npub const B_MAX: u64 = 2;\nconst C: u8 = 3;\n";
    let table = "Of `B_MAX` the text says something.\n| `A_MAX` | 1 | nobody | nothing |\n";
    assert_eq!(missing_bounds(path, bounds, table), ["x/src/a.rs: B_MAX"]);
    let in_tests = format!("#[cfg(test)]\nmod tests {{\n{bounds}");
    assert!(missing_bounds(path, &in_tests, "").is_empty());

    for word in leftover_words() {
        assert!(leftovers(path, &format!("// {word} later")).is_some(), "{word}");
    }
    assert!(leftovers(path, "mktemp /tmp/x.XXXXXX; debug!(x); mytodo").is_none());

    for name in ["src/mod.rs", "src/utils.rs", "src/helpers/a.rs", "deploy/misc.toml"] {
        assert!(empty_name(&root().join(name)).is_some(), "{name}");
    }
    assert!(empty_name(&root().join("src/commonly.rs")).is_none());

    assert!(unreadable_sample(Path::new("deploy/a.toml"), "a = ").is_some());
    assert!(unreadable_sample(Path::new("deploy/a.json"), "{\"a\": }").is_some());
    assert!(unreadable_sample(Path::new("deploy/a.toml"), "a = 1").is_none());
    assert!(unreadable_sample(Path::new("deploy/config/sidecar.toml"), "a = 1").is_some());
    assert!(is_decision_note(Path::new("consensus/docs/0001-one-mesh.md")));
    assert!(!is_decision_note(Path::new("consensus/docs/runbook.md")));
}

#[test]
fn a_refused_licence_or_version_is_found() {
    let allowed =
        |licence: &str| matches!(licence, "MIT" | "Apache-2.0" | "Apache-2.0 WITH LLVM-exception");
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("MIT/GPL-3.0", true),
        ("MIT AND GPL-3.0", false),
        ("GPL-3.0 OR MIT AND Apache-2.0", true),
        ("(GPL-3.0 OR MIT) AND ISC", false),
        ("ISC AND (MIT OR GPL-3.0) OR Apache-2.0 WITH LLVM-exception", true),
    ] {
        assert_eq!(satisfied(expression, allowed), expected, "{expression}");
    }
    let rules: Table = "[licenses]\nallow = [\"MIT\"]\nexceptions = [{ crate = \"e\", allow = [\"MPL-2.0\"] }]\n\
        [sources]\nallow-registry = [\"https://a\"]\n[bans]\ndeny = [{ crate = \"p\", deny-multiple-versions = true }]"
        .parse()
        .expect("toml");
    let package = |name: &str, license: Json, source: Json| serde_json::json!({ "name": name, "version": "1", "license": license, "source": source });
    assert_eq!(refused(&package("a", "MIT".into(), "registry+https://a".into()), &rules), None);
    assert_eq!(refused(&package("e", "MPL-2.0".into(), Json::Null), &rules), None);
    assert!(refused(&package("a", "MPL-2.0".into(), Json::Null), &rules).is_some());
    assert!(refused(&package("a", Json::Null, Json::Null), &rules).is_some());
    assert!(refused(&package("a", "MIT".into(), "git+https://a".into()), &rules).is_some());

    let lock: Table =
        "[[package]]\nname = \"p\"\nversion = \"1\"\n[[package]]\nname = \"p\"\nversion = \"2\"\n"
            .parse()
            .expect("toml");
    assert_eq!(several_versions(&lock, &rules), ["p has 2 versions"]);
}

// ---- Dependencies ----------------------------------------------------------------------------------------------

/// Edges between our crates that [`KNOWS`] does not have.
fn forbidden_edges(edges: &[(String, String)]) -> Vec<String> {
    let ours = |name: &String| name.starts_with("lockstep-");
    let may = |from: &str, to: &str| {
        let known = KNOWS.iter().find(|(name, _)| *name == from).map(|(_, known)| *known);
        known.is_some_and(|known| known.contains(&"*") || known.contains(&to))
    };
    let offenders = edges.iter().filter(|(from, to)| ours(to) && !may(from, to));
    offenders.map(|(from, to)| format!("{from} -> {to}")).collect()
}

/// Edges to a package of [`KEPT`] from a crate that may not name it.
fn misplaced(edges: &[(String, String)]) -> Vec<String> {
    let may = |from: &str, to: &str| {
        let kept = KEPT.iter().filter(|(prefix, _)| to.starts_with(prefix));
        kept.into_iter().all(|(_, allowed)| allowed.contains(&from))
    };
    let offenders = edges.iter().filter(|(from, to)| !may(from, to));
    offenders.map(|(from, to)| format!("{from} -> {to}")).collect()
}

/// Lines of `cargo tree` that name a package of [`NEVER_IN_CORE`] or one of its family (`tokio-util`).
fn forbidden_in_core(tree: &str) -> Vec<String> {
    let family = |name: &str, of: &str| name == of || name.starts_with(&format!("{of}-"));
    let forbidden = |line: &&str| {
        let name = line.split(' ').next().unwrap_or_default();
        NEVER_IN_CORE.iter().any(|of| family(name, of))
    };
    tree.lines().filter(forbidden).map(str::to_owned).collect()
}

/// What `manifest` states itself though the root has it: versions, paths, the package's frame, lints.
fn own_versions(path: &Path, manifest: &Table) -> Vec<String> {
    let inherited = |value: Option<&Toml>| {
        value.and_then(|value| value.get("workspace")).and_then(Toml::as_bool) == Some(true)
    };
    let package = manifest.get("package");
    let mut offenders: Vec<String> = ["version", "edition", "rust-version", "license", "publish"]
        .iter()
        .filter(|key| !inherited(package.and_then(|package| package.get(*key))))
        .map(|key| format!("{}: package.{key}", shown(path)))
        .collect();
    if !inherited(manifest.get("lints")) {
        offenders.push(format!("{}: lints", shown(path)));
    }
    let own = dependencies(manifest).into_iter().filter(|(_, value)| !inherited(Some(value)));
    offenders.extend(own.map(|(name, _)| format!("{}: {name}", shown(path))));
    offenders
}

/// All dependencies of a manifest, of every kind and target.
fn dependencies(manifest: &Table) -> BTreeMap<String, Toml> {
    let targets = manifest.get("target").and_then(Toml::as_table);
    let tables =
        targets.into_iter().flat_map(Table::values).filter_map(Toml::as_table).chain([manifest]);
    tables
        .flat_map(|table| {
            ["dependencies", "dev-dependencies", "build-dependencies"].map(|kind| table.get(kind))
        })
        .flatten()
        .filter_map(Toml::as_table)
        .flat_map(|table| table.iter().map(|(name, value)| (name.clone(), value.clone())))
        .collect()
}

/// Why `deny.toml` refuses a package: its licence or where it comes from.
fn refused(package: &Json, rules: &Table) -> Option<String> {
    let (name, licence) =
        (package["name"].as_str()?, package["license"].as_str().unwrap_or("none"));
    let lists = |value: &Toml, wanted: &str| {
        value.as_array().is_some_and(|list| list.iter().any(|entry| entry.as_str() == Some(wanted)))
    };
    let exceptions = rules["licenses"]["exceptions"].as_array().cloned().unwrap_or_default();
    let excepted = |wanted: &str| {
        let mut own = exceptions.iter().filter(|entry| entry["crate"].as_str() == Some(name));
        own.any(|entry| lists(&entry["allow"], wanted))
    };
    if !satisfied(licence, |wanted| lists(&rules["licenses"]["allow"], wanted) || excepted(wanted))
    {
        return Some(format!("{name} {}: licence {licence}", package["version"]));
    }
    let source = package["source"].as_str()?;
    let registry = source.strip_prefix("registry+").unwrap_or_default();
    let known = lists(&rules["sources"]["allow-registry"], registry);
    (!known).then(|| format!("{name} {}: from {source}", package["version"]))
}

/// Whether an SPDX expression can be met with the allowed licences. `AND` binds tighter than `OR`; the old `/` is `OR`.
fn satisfied(expression: &str, allowed: impl Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let spaced = spaced.replace(" WITH ", "\u{0}");
    // One entry per open parenthesis: whether an alternative was met so far, and whether this one still can be.
    let mut open = vec![(false, true)];
    for token in spaced.split_whitespace() {
        let top = open.last_mut().expect("balanced parentheses");
        match token {
            "OR" => *top = (top.0 || top.1, true),
            "AND" => {}
            "(" => open.push((false, true)),
            ")" => {
                let (met, current) = open.pop().expect("balanced parentheses");
                open.last_mut().expect("balanced parentheses").1 &= met || current;
            }
            licence => top.1 &= allowed(&licence.replace('\u{0}', " WITH ")),
        }
    }
    open.iter().all(|(met, current)| *met || *current)
}

/// Packages of which `deny.toml` wants one version, and the lock file has more.
fn several_versions(lock: &Table, rules: &Table) -> Vec<String> {
    let bans = rules["bans"]["deny"].as_array().expect("a list");
    let single = bans.iter().filter(|ban| ban.get("deny-multiple-versions").is_some());
    let count = |name: &str| {
        let packages = lock["package"].as_array().expect("a list");
        packages.iter().filter(|package| package["name"].as_str() == Some(name)).count()
    };
    single
        .filter_map(|ban| ban["crate"].as_str())
        .map(|name| (name, count(name)))
        .filter(|(_, count)| *count > 1)
        .map(|(name, count)| format!("{name} has {count} versions"))
        .collect()
}

// ---- Files -----------------------------------------------------------------------------------------------------

/// The first line that is not empty is neither a module comment nor, at a crate's root, its README.
fn no_module_docs(path: &Path, text: &str) -> Option<String> {
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let readme = path.ends_with("lib.rs") && first == "#![doc = include_str!(\"../README.md\")]";
    (!first.starts_with("//!") && !readme).then(|| shown(path))
}

/// More than [`FILE_LINES_MAX`] lines before the tests. Files of tests have no limit.
fn too_long(path: &Path, text: &str) -> Option<String> {
    let relative = path.strip_prefix(root()).unwrap_or(path);
    let of_tests = |part: &std::ffi::OsStr| part == "tests" || part == "tests.rs";
    if relative.iter().any(of_tests) {
        return None;
    }
    let lines: Vec<&str> = text.lines().collect();
    let is_tests = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod tests");
    let count = lines.windows(2).position(is_tests).unwrap_or(lines.len());
    (count > FILE_LINES_MAX).then(|| format!("{}: {count} lines", shown(path)))
}

/// Constants named `…_MAX` in a file, its tests not counted, that have no row in a table.
fn missing_bounds(path: &Path, text: &str, table: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let name = |line: &str| {
        let (_, rest) = line.trim_start().split_once("const ")?;
        let (name, _) = rest.split_once(':')?;
        name.ends_with("_MAX").then(|| name.to_owned())
    };
    let has_row = |name: &String| {
        let cell = format!("| `{name}` |");
        table.lines().any(|line| line.starts_with(&cell))
    };
    let missing = code.lines().filter_map(name).filter(|name| !has_row(name));
    missing.map(|name| format!("{}: {name}", shown(path))).collect()
}

/// What must not be left in a file. Put together here, so that this file does not offend.
fn leftover_words() -> [String; 6] {
    [("TO", "DO"), ("FIX", "ME"), ("X", "XX"), ("todo", "!"), ("unimplemented", "!"), ("dbg", "!")]
        .map(|(left, right)| format!("{left}{right}"))
}

/// The first leftover of a file, where it stands as a word of its own.
fn leftovers(path: &Path, text: &str) -> Option<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let stands_alone = |line: &str, word: &str| {
        line.match_indices(word).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + word.len()..].chars().next().filter(|_| !word.ends_with('!'));
            !before.is_some_and(is_word) && !after.is_some_and(is_word)
        })
    };
    let words = leftover_words();
    let found = |line: &str| words.iter().any(|word| stands_alone(line, word));
    let (index, line) = text.lines().enumerate().find(|(_, line)| found(line))?;
    Some(format!("{}:{}: {}", shown(path), index + 1, line.trim()))
}

/// `mod.rs`, or a part of the path that says nothing about what is in it.
fn empty_name(path: &Path) -> Option<String> {
    let relative = path.strip_prefix(root()).expect("a file of the tree");
    let stem = |part: &std::ffi::OsStr| {
        part.to_string_lossy().split('.').next().unwrap_or_default().to_owned()
    };
    let is_empty = relative.iter().any(|part| EMPTY_NAMES.contains(&stem(part).as_str()));
    (is_empty || relative.ends_with("mod.rs")).then(|| shown(path))
}

/// A sample configuration that its format's parser refuses, or the program that it is for. (A node's file and a genesis are
/// tried where they are defined.)
fn unreadable_sample(path: &Path, text: &str) -> Option<String> {
    let error = match path.extension()?.to_str()? {
        "toml" if path.ends_with("config/sidecar.toml") => {
            toml::from_str::<SidecarOptions>(text).err()?.to_string()
        }
        "toml" => text.parse::<Table>().err()?.to_string(),
        "json" => serde_json::from_str::<Json>(text).err()?.to_string(),
        _ => return None,
    };
    Some(format!("{}: {error}", shown(path)))
}

/// `<crate>/docs/NNNN-title.md`.
fn is_decision_note(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let (number, rest) = name.split_at_checked(4).unwrap_or_default();
    let in_docs = path.parent().is_some_and(|parent| parent.ends_with("docs"));
    in_docs
        && number.chars().all(|c| c.is_ascii_digit())
        && rest.starts_with('-')
        && rest.ends_with(".md")
}

/// Applies `check` to all files of some kinds (extension, or the whole name).
fn check_files(kinds: &[&str], check: impl Fn(&Path, &str) -> Option<String>) -> Vec<String> {
    let kind = |path: &Path| {
        path.extension().or(path.file_name()).map(|kind| kind.to_string_lossy().into_owned())
    };
    let wanted = |path: &PathBuf| kind(path).is_some_and(|kind| kinds.contains(&kind.as_str()));
    files().iter().filter(|path| wanted(path)).filter_map(|path| check(path, &read(path))).collect()
}

// ---- What the checks look at -----------------------------------------------------------------------------------

/// The root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate is in the workspace")
        .to_owned()
}

/// All files of the tree, sorted, without version control and build results.
fn files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![root()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a readable directory") {
            let entry = entry.expect("a readable entry");
            let kind = entry.file_type().expect("a known kind");
            let skipped = [".git", "target", "devnet", "proptest-regressions"];
            if kind.is_dir() && !skipped.iter().any(|name| entry.file_name() == *name) {
                directories.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    assert!(files.len() > 20, "the walk found only {} files", files.len());
    files
}

/// The manifests of our crates.
fn members() -> Vec<PathBuf> {
    let root_manifest = toml_of(&root().join("Cargo.toml"));
    let members = root_manifest["workspace"]["members"].as_array().expect("a list");
    members
        .iter()
        .map(|path| root().join(path.as_str().expect("a path")).join("Cargo.toml"))
        .collect()
}

/// All direct dependencies of our crates, of every kind, by package name.
fn edges() -> Vec<(String, String)> {
    let metadata = cargo(&["metadata", "--format-version", "1", "--no-deps"]);
    let metadata: Json = serde_json::from_str(&metadata).expect("json");
    let name = |value: &Json| value["name"].as_str().expect("a name").to_owned();
    let edges_of = |package: &Json| -> Vec<(String, String)> {
        let targets = package["dependencies"].as_array().expect("a list");
        targets.iter().map(|target| (name(package), name(target))).collect()
    };
    let edges: Vec<_> =
        metadata["packages"].as_array().expect("a list").iter().flat_map(edges_of).collect();
    assert!(edges.len() > 50, "cargo told only {} edges", edges.len());
    edges
}

/// Every package of the lock file that this platform may use.
fn packages() -> Vec<Json> {
    let version = Command::new("rustc").arg("-vV").output().expect("rustc runs").stdout;
    let version = String::from_utf8(version).expect("text");
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host");
    let metadata = cargo(&["metadata", "--format-version", "1", "--filter-platform", host]);
    let metadata: Json = serde_json::from_str(&metadata).expect("json");
    metadata["packages"].as_array().expect("a list").clone()
}

/// Runs cargo on the workspace, without a network, and gives what it printed.
fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .args(["--locked", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

fn toml_of(path: &Path) -> Table {
    read(path).parse().unwrap_or_else(|error| panic!("{}: {error}", shown(path)))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", shown(path)))
}

/// A path as the reader knows it: from the root of the tree.
fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Fails with every offender on a line of its own.
#[track_caller]
fn expect_none(what: &str, offenders: Vec<String>) {
    assert!(offenders.is_empty(), "{what}:\n  {}", offenders.join("\n  "));
}
