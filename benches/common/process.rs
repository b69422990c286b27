//! What the kernel reports of a process under measurement.

use std::process::Child;

/// User and system time so far, in seconds.
pub(crate) fn cpu_seconds(process: &Child) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).expect("it runs");
    let after_name = stat.rsplit_once(')').expect("a name in parentheses").1;
    let ticks = after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().expect("a number"));
    // The kernel's clock ticks, 100 a second on Linux whatever its own rate.
    ticks.sum::<f64>() / 100.0
}

/// A field of the process's status in kilobytes, such as `VmRSS:`, as mebibytes.
pub(crate) fn mebibytes(process: &Child, field: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with(field)).expect("the field");
    line.split_whitespace().nth(1).expect("its value").parse::<f64>().expect("a number") / 1024.0
}
