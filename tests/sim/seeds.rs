//! Worlds by seed: thousands of them on all processors, or one of them with a trace.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::world::World;

/// So many failures are enough to see.
const ENOUGH: usize = 10;

/// Runs a world for each seed from 0 to `seeds`, or by `VIPD_SIM_SEED` that one alone, and panics where one fails, naming its seed.
/// What the worlds came to, for the caller to see that they prove something; `None` where it was one alone.
pub fn each<T: Send>(
    test: &str,
    seeds: u64,
    run: impl Fn(u64, bool) -> (Result<T, String>, World) + Sync,
) -> Option<Vec<T>> {
    if let Some(seed) = from_environment("VIPD_SIM_SEED") {
        let (result, world) = run(seed, true);
        world.trace.iter().flatten().for_each(|line| println!("{line}"));
        result.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        return None;
    }
    let next = AtomicU64::new(0);
    let (results, failures) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || failures.lock().unwrap().len() >= ENOUGH {
                        return;
                    }
                    match run(seed, false).0 {
                        Ok(result) => results.lock().unwrap().push(result),
                        Err(violation) => failures.lock().unwrap().push((seed, violation)),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    for (seed, violation) in &failures {
        println!("seed {seed}: {violation}");
        println!("  to see it: VIPD_SIM_SEED={seed} cargo test --test sim {test} -- --nocapture");
    }
    assert!(failures.is_empty(), "{} of {seeds} seeds failed", failures.len());
    Some(results.into_inner().unwrap())
}

/// How many worlds to run: what `VIPD_SIM_SEEDS` says, for one that costs as much as `cost` usual ones; where it says nothing, `usual`.
pub fn number(usual: u64, cost: u64) -> u64 {
    from_environment("VIPD_SIM_SEEDS").map_or(usual, |seeds| seeds.div_ceil(cost))
}

fn from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number")))
}
