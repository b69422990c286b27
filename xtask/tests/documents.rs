//! The documentation holds what the code holds.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::{collections::BTreeSet, fs, path::Path};

use koodrive_exporter::config::config_keys;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

#[test]
fn the_example_configuration_shows_every_key() {
    let example = read("config/koodrive-exporter.yml");
    let words: BTreeSet<_> = example.split(|char: char| !char.is_alphanumeric() && char != '_').collect();
    for key in config_keys().into_iter().map(|key| key.key.path) {
        // A secret stands there by its file alone, and a prefix is for tokens of other servers.
        let name = key.rsplit('.').next().unwrap();
        assert!(words.contains(name) || ["app_secret", "token", "token_prefix"].contains(&name), "{key}");
    }
}

#[test]
fn each_direct_dependency_has_a_line_that_says_why() {
    let own = ["exporter-toolkit", "koodrive", "koodrive-simulator"];
    let manifests = own.map(|name| read(&format!("crates/{name}/Cargo.toml")));
    let manifests = [read("Cargo.toml")].into_iter().chain(manifests);
    let dependencies = manifests.flat_map(|manifest| {
        let section = manifest.split("\n[dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap().to_owned();
        section.lines().map(|line| line.split(['.', ' ']).next().unwrap().to_owned()).collect::<Vec<_>>()
    });
    let dependencies: BTreeSet<_> =
        dependencies.filter(|name| !name.is_empty() && !own.contains(&name.as_str())).collect();
    let document = read("docs/dependencies.md");
    let rows =
        document.split("\n## ").next().unwrap().lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let justified: BTreeSet<_> = rows.filter(|(_, why)| why.len() > 10).map(|(name, _)| name.to_owned()).collect();
    assert_eq!(dependencies, justified);
}
