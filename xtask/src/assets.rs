//! The man pages and the shell completions, from the command line's own definition.

use std::{fs, io, path::Path};

use clap_complete::{Shell, generate_to};
use koodrive_exporter::cli::Cli;

const NAME: &str = "koodrive-exporter";

pub(crate) fn write(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    // `--help` says what pages on `help` would.
    let documented = Cli::described().mut_subcommand("help", |help| help.hide(true));
    clap_mangen::generate_to(documented, folder)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut Cli::described(), NAME, folder)?;
    }
    Ok(())
}
