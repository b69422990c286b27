//! Makes the generated files of this repository.
//!
//! ```sh
//! cargo xtask tables             # the tables under docs/
//! cargo xtask tables --check     # fails where one is out of date
//! cargo xtask assets FOLDER      # man pages and shell completions
//! ```

mod assets;
mod tables;

use std::{error::Error, path::PathBuf};

use clap::Parser;

#[derive(Parser)]
enum Task {
    /// Put the tables of the pages under docs/ up to date
    Tables {
        /// Change nothing, and fail where a table is out of date
        #[arg(long)]
        check: bool,
    },
    /// Write man pages and shell completions
    Assets {
        /// The folder to write to
        folder: PathBuf,
    },
}

fn main() -> Result<(), Box<dyn Error>> {
    match Task::parse() {
        Task::Tables { check } => tables::update(check),
        Task::Assets { folder } => Ok(assets::write(&folder)?),
    }
}
