//! Any status and any body give an overview or a failure with a reason, and both can be shown.

#![no_main]

use koodrive::{Reason, Unit, Units, answer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, bool, &[u8])| {
    let (status, count, body) = input;
    let total_allocation = if count { Unit::Count } else { Unit::TB };
    let units = Units { total_capacity: Unit::TB, total_used: Unit::B, total_allocation };
    match answer::read(status % 600, body, units) {
        Ok(overview) => {
            let fields = [overview.total_capacity, overview.total_used, overview.total_allocation];
            let values = fields.into_iter().flatten().map(|measure| measure.value);
            assert!(values.chain(overview.quota.and_then(Result::ok)).all(|value| value >= 0.0));
            let _ = overview.faults();
        }
        Err(error) => {
            assert!(Reason::ALL.contains(&error.reason()));
            assert!(!error.to_string().contains('\n'));
        }
    }
});
