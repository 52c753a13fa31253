//! CPU time and memory of an owner of 1 to 1,000 virtual routers at adverts of 1 s.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use vipd::lab::{Host, Software};

use super::listen::Listener;
use super::report::{head, row};
use super::routers::{host, interfaces, networks, routers};

/// Until the burst of announcements that follows a takeover is over: keepalived's second comes after 5 s.
const SETTLE: Duration = Duration::from_secs(10);

pub(crate) fn measure(both: &[Software; 2], time: Duration) -> Result<()> {
    head(&format!("Owner of many virtual routers, adverts of 1 s: CPU over {} s, and VmHWM", time.as_secs()));
    for count in [1, 50, 250, 1000] {
        // At the same time, each on networks of its own: a process's CPU time is its own.
        let measured = thread::scope(|scope| -> Result<Vec<[f64; 3]>> {
            let threads: Vec<_> =
                both.iter().map(|software| scope.spawn(move || once(software, count, time))).collect();
            threads.into_iter().map(|thread| thread.join().expect("the thread reports its errors")).collect()
        })?;
        let of = |figure: usize| [vec![measured[0][figure]], vec![measured[1][figure]]];
        row(&format!("{count} virtual routers: CPU"), "%", &of(0));
        row(&format!("{count} virtual routers: memory"), "MiB", &of(1));
        row(&format!("{count} virtual routers: largest process"), "MiB", &of(2));
    }
    Ok(())
}

/// Per cent of one CPU; MiB of all its processes, and of the largest.
fn once(software: &Software, count: usize, time: Duration) -> Result<[f64; 3]> {
    let networks = networks()?;
    let (client, node) = (host("client", 9, &networks)?, host("node-a", 1, &networks)?);
    let listener = Listener::start(&client, &interfaces())?;
    let routers = routers(count, 200);
    let addresses: Vec<_> = routers
        .iter()
        .flat_map(|router| &router.addresses)
        .filter_map(|address| address.split('/').next()?.parse().ok())
        .collect();
    let agent = software.start(&node, &routers)?;
    listener.wait(&addresses, Duration::from_secs(60), |first| first.announced).with_context(|| software.name())?;
    // Its packets would be parsed here, on the CPU that is measured.
    drop(listener);
    thread::sleep(SETTLE);
    let (begun, before) = (Instant::now(), cpu_seconds(&node)?);
    thread::sleep(time);
    let (seconds, used) = (begun.elapsed().as_secs_f64(), cpu_seconds(&node)? - before);
    agent.ensure_running()?;
    let memory = each(&node, |pid| memory_kib(pid).map(|kib| kib / 1024.0))?;
    Ok([100.0 * used / seconds, memory.iter().sum(), memory.iter().copied().fold(0.0, f64::max)])
}

/// The time that all threads of the host have run, which is utime + stime without their rounding to 10 ms.
fn cpu_seconds(host: &Host) -> Result<f64> {
    let of_process = |pid| {
        let tasks = fs::read_dir(format!("/proc/{pid}/task"))?;
        tasks.map(|task| nanoseconds_run(&task?.path())).sum::<Result<f64>>()
    };
    Ok(each(host, of_process)?.iter().sum::<f64>() / 1e9)
}

fn nanoseconds_run(task: &Path) -> Result<f64> {
    let schedstat = fs::read_to_string(task.join("schedstat"))?;
    schedstat.split_whitespace().next().and_then(|text| text.parse().ok()).context("schedstat")
}

/// VmHWM.
fn memory_kib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    line.trim().trim_end_matches(" kB").parse().context("VmHWM")
}

fn each(host: &Host, of: impl Fn(u32) -> Result<f64>) -> Result<Vec<f64>> {
    host.processes()?.into_iter().map(of).collect()
}
