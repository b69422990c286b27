//! Puts the tables of the pages under `docs/` as they are now: `cargo run --example reference`.

use std::{fs, io};

use koodrive_exporter::reference;

fn main() -> io::Result<()> {
    for entry in fs::read_dir("docs")? {
        let path = entry?.path();
        let filled = reference::fill(&fs::read_to_string(&path)?).map_err(io::Error::other)?;
        fs::write(&path, filled)?;
    }
    Ok(())
}
