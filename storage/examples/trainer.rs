//! A long computation that checkpoints its own state and goes on after a kill.
//!
//! Each step changes the model and notes the step in one transaction, so what is found after a crash
//! is always the state after some whole step. Here the "training" is a walk towards the mean of a
//! few numbers; run as it is, the program kills its own worker several times.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]
#![expect(clippy::cast_precision_loss, reason = "steps are far below 2^52")]

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use seawall::{Database, Durability, Options, TransactionOptions};

const STEPS: u64 = 20_000;
/// After this many steps a commit waits for the disk; a kill loses at most those in between.
const SYNC_EVERY: u64 = 100;
const SAMPLES: [f64; 5] = [1.0, 4.0, 9.0, 16.0, 25.0];
const CHILD_DIR: &str = "SEAWALL_EXAMPLE_DIR";

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::var_os(CHILD_DIR) {
        Some(dir) => train(Path::new(&dir)),
        None => supervise(),
    }
}

fn train(dir: &Path) -> Result<(), Box<dyn Error>> {
    let database = Options::new().cache_bytes(16 << 20).open(dir)?;
    let state = database.tree("state")?;
    let read = |key: &str| -> Result<Option<[u8; 8]>, Box<dyn Error>> {
        state.get(key)?.map(|value| Ok(value.as_ref().try_into()?)).transpose()
    };
    let mut step = read("step")?.map_or(0, u64::from_be_bytes);
    let mut estimate = read("estimate")?.map_or(0.0, f64::from_be_bytes);
    println!("  goes on at step {step}, estimate {estimate:.4}");
    while step < STEPS {
        let sample = SAMPLES[usize::try_from(step)? % SAMPLES.len()];
        step += 1;
        estimate += (sample - estimate) / step as f64;
        let durability =
            if step % SYNC_EVERY == 0 { Durability::Sync } else { Durability::Relaxed };
        let options = TransactionOptions::new().durability(durability);
        database.transact_with::<_, seawall::Error>(options, |transaction| {
            transaction.insert(&state, "step", step.to_be_bytes())?;
            transaction.insert(&state, "estimate", estimate.to_be_bytes())
        })?;
    }
    database.close()?;
    Ok(())
}

fn supervise() -> Result<(), Box<dyn Error>> {
    let parent = tempfile::tempdir()?;
    let dir = parent.path().join("db");
    for attempt in 1.. {
        println!("attempt {attempt}");
        let mut worker = Command::new(std::env::current_exe()?).env(CHILD_DIR, &dir).spawn()?;
        let patience = Duration::from_millis(150 * attempt);
        let started = std::time::Instant::now();
        let status = loop {
            if let Some(status) = worker.try_wait()? {
                break Some(status);
            }
            if started.elapsed() > patience && attempt < 4 {
                worker.kill()?;
                worker.wait()?;
                break None;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        };
        if let Some(status) = status {
            assert!(status.success(), "the worker failed");
            break;
        }
        println!("  killed");
    }
    let database = Database::open(&dir)?;
    let state = database.tree("state")?;
    let estimate = state.get("estimate")?.ok_or("the training ended")?;
    let estimate = f64::from_be_bytes(estimate.as_ref().try_into()?);
    println!("done: estimate {estimate:.4}, the mean is 11");
    assert!((estimate - 11.0).abs() < 1e-6);
    Ok(())
}
