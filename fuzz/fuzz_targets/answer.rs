//! Any status and any body give an answer of each endpoint or a failure with a reason, and both can be shown.

#![no_main]

use koodrive::{Resource, Unit, Units, answer, compare_units, overview::OVERVIEW};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, bool, &[u8])| {
    let (status, counts, body) = input;
    let mut units = Units::default();
    units.set(&OVERVIEW, "total_capacity", Unit::TB);
    units.set(&OVERVIEW, "total_used", Unit::B);
    units.set(&OVERVIEW, "total_allocation", if counts { Unit::Count } else { Unit::GB });
    let mut answers = Vec::new();
    for resource in Resource::ALL {
        match answer::read(status % 600, body, resource, &units) {
            Ok(answer) => {
                assert!(answer.fields().filter_map(|(_, field)| field.ok()).all(|measure| measure.value >= 0.0));
                let _ = answer.faults();
                answers.push(answer);
            }
            Err(error) => {
                assert!(!error.reason().as_str().is_empty());
                assert!(!error.to_string().contains('\n'));
            }
        }
    }
    if let [overview, usage, ..] = answers.as_slice() {
        for verdict in compare_units(overview, usage, &units) {
            let _ = verdict.to_string();
        }
    }
});
