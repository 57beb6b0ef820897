//! The two steps of the proof on real input that are more than a command; `tests/scripts/real_input.sh`
//! runs them.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line program")]

use std::fs::{self, File};
use std::io::{BufWriter, stdout};
use std::path::Path;
use std::process::ExitCode;

use seawall_tests::failure::{Failure, Outcome};
use seawall_tests::real_input::collection::{Collection, Source};
use seawall_tests::real_input::documents::documents;
use seawall_tests::real_input::killed_load::KilledLoad;
use seawall_tests::real_input::packages::packages;

const USAGE: &str = "\
usage: real_input make OUT INDEX FOLDER         pairs of a package index and of the files below a folder
       real_input kill SEAWALL INPUT DIR N SEED   load INPUT into DIR with the command SEAWALL, kill it N times
";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["make", out, index, folder] => make(out.as_ref(), index.as_ref(), folder.as_ref()),
        ["kill", seawall, input, dir, kills, seed] => match (kills.parse(), seed.parse()) {
            (Ok(kills), Ok(seed)) => {
                kill(seawall.as_ref(), input.as_ref(), dir.as_ref(), kills, seed)
            }
            _ => Err(Failure::new("N and SEED are numbers")),
        },
        _ => Err(Failure::new(USAGE)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("real_input: {why}");
            ExitCode::FAILURE
        }
    }
}

fn make(out: &Path, index: &Path, folder: &Path) -> Outcome {
    let stanzas = fs::read(index)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", index.display())))?;
    let (packages, documents) = (packages(&stanzas)?, documents(folder)?);
    println!("packages found       {}", packages.len());
    println!("files found          {}", documents.len());
    let mut collection = Collection::default();
    for package in packages {
        collection.add(package.key, Source::Bytes(stanzas[package.stanza].to_vec()));
    }
    for document in documents {
        collection.add(document.key, Source::File(document.path));
    }
    let file = File::create(out)
        .map_err(|error| Failure::new(format!("cannot create {}: {error}", out.display())))?;
    print!("{}", collection.write(&mut BufWriter::new(file))?);
    Ok(())
}

fn kill(seawall: &Path, input: &Path, dir: &Path, kills: u64, seed: u64) -> Outcome {
    let mut load = KilledLoad::new(seawall, input, dir, seed)?;
    load.kill_often(kills, &mut stdout().lock())?;
    let counts = load.counts;
    println!("kills                {}, {} more at the start", counts.kills, counts.early_kills);
    Ok(())
}
