//! Writes the man pages and the shell completions, from the command line's own definition.
//!
//! Usage: cargo run --example assets -- FOLDER

use std::{fs, io, path::PathBuf};

use clap::CommandFactory;
use clap_complete::{Shell, generate_to};
use koodrive_exporter::cli::Cli;

const NAME: &str = "koodrive-exporter";

fn main() -> io::Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| "target/assets".into()));
    fs::create_dir_all(&folder)?;
    clap_mangen::generate_to(Cli::command(), &folder)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut Cli::command(), NAME, &folder)?;
    }
    Ok(())
}
