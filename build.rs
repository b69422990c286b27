//! Gives the program the facts of its build: revision, compiler, target.

use std::{env, path::Path, process::Command};

fn main() {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = output_of(Command::new(rustc).arg("--version"));
    let version = version.as_deref().and_then(|line| line.split(' ').nth(1)).unwrap_or("unknown");
    // A build from a source archive has no repository: its packager names the revision, or Cargo has written it down.
    let revision = env::var("KOODRIVE_EXPORTER_BUILD_REVISION").ok();
    let revision = revision.or_else(revision_of_package);
    let revision = revision.or_else(|| output_of(Command::new("git").args(["rev-parse", "--short=12", "HEAD"])));
    println!("cargo::rustc-env=BUILD_RUSTC={version}");
    println!("cargo::rustc-env=BUILD_REVISION={}", revision.as_deref().unwrap_or("unknown"));
    println!("cargo::rustc-env=BUILD_TARGET={}", env::var("TARGET").unwrap_or_default());
    println!("cargo::rerun-if-env-changed=KOODRIVE_EXPORTER_BUILD_REVISION");
    println!("cargo::rerun-if-changed=build.rs");
    if Path::new(".git/logs/HEAD").exists() {
        println!("cargo::rerun-if-changed=.git/logs/HEAD");
    }
}

/// The revision in the file that `cargo package` adds.
fn revision_of_package() -> Option<String> {
    let text = std::fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let (_, revision) = text.split_once("\"sha1\": \"")?;
    Some(revision.get(..12)?.to_owned())
}

fn output_of(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
