//! Writes the files that a fuzzer starts with, a folder for each target, into the folder that is named;
//! see `tests/fuzz/README.md`.

use std::error::Error;
use std::path::PathBuf;

use clap::Parser;
use seawall_tests::fuzz::seeds::seeds;

/// Write the seeds of the fuzz targets.
#[derive(Debug, Parser)]
struct Arguments {
    /// Folder with a folder for each target
    folder: PathBuf,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    for (target, inputs) in seeds().map_err(|why| why.to_string())? {
        let folder = arguments.folder.join(target);
        std::fs::create_dir_all(&folder)?;
        for (number, input) in inputs.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number:02}")), input)?;
        }
    }
    Ok(())
}
