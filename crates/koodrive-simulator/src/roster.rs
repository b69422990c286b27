//! The simulated accounts: who they are, what they may show, how their usage grows.

use std::{fmt::Write, time::Duration};

use serde_json::{Value, json};

/// The vendor's sample id; the simulated ids count up from it.
const FIRST_USER_ID: u64 = 1_505_084_218_764_547_200;

/// In kilobytes, as the API counts.
const GIGABYTE: u64 = 1 << 20;
const TERABYTE: u64 = 1 << 30;

/// Which accounts there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roster {
    /// How many; at least one.
    pub accounts: u64,
}

/// One simulated account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulatedAccount {
    /// The alias in the configuration written for it.
    pub alias: String,
    /// Its `X-User-Id`.
    pub user_id: String,
    /// What its requests must show.
    pub credential: Credential,
    capacity: u64,
    used_at_start: u64,
    index: u64,
}

/// What an account's requests must show. These are no secrets: they open the simulator alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A bearer token.
    Token(String),
    /// An application's id and secret.
    App {
        /// The id.
        id: String,
        /// The secret.
        secret: String,
    },
}

impl Roster {
    /// The accounts: every third uses a token, the others sign.
    pub fn accounts(self) -> impl Iterator<Item = SimulatedAccount> {
        (0..self.accounts).map(SimulatedAccount::new)
    }

    /// A configuration file, in YAML, with which the exporter polls these accounts at `endpoint`.
    #[must_use]
    pub fn configuration(self, endpoint: &str, interval: &str) -> String {
        let mut yaml =
            format!("endpoint: {endpoint}\npoll: {{ interval: {interval} }}\nhttp: {{ proxy_url: none }}\naccounts:\n");
        for SimulatedAccount { alias, user_id, credential, .. } in self.accounts() {
            let auth = match credential {
                Credential::Token(token) => format!("{{ type: token, token: {token} }}"),
                Credential::App { id, secret } => format!("{{ type: app, app_id: {id}, app_secret: {secret} }}"),
            };
            // Writing to a String cannot fail.
            let _ = write!(yaml, "  {alias}:\n    user_id: \"{user_id}\"\n    auth: {auth}\n");
        }
        yaml
    }
}

impl SimulatedAccount {
    fn new(index: u64) -> Self {
        let alias = match index {
            0 => "production".to_owned(),
            1 => "finance".to_owned(),
            2 => "archive".to_owned(),
            index => format!("account-{index:05}"),
        };
        let credential = if index % 3 == 1 {
            Credential::Token(format!("simulated-token-{index:05}"))
        } else {
            Credential::App { id: format!("simulated-app-{index:05}"), secret: format!("simulated-secret-{index:05}") }
        };
        let (capacity, percent_used) = match index % 3 {
            0 => (4 * TERABYTE, 42),
            1 => (512 * GIGABYTE, 71),
            _ => (10 * TERABYTE, 88),
        };
        let user_id = (FIRST_USER_ID + index).to_string();
        Self { alias, user_id, credential, capacity, used_at_start: capacity / 100 * percent_used, index }
    }

    /// The `data` object of the answer, `since` the simulator's start: a steady growth of a hundredth
    /// of the capacity an hour, with a wave of ten minutes over it, so that graphs move.
    #[must_use]
    pub fn usage(&self, since: Duration) -> Value {
        let seconds = since.as_secs();
        let growth = self.capacity / 360_000 * (seconds % 36_000);
        let wave = self.capacity / 500_000 * triangle(seconds + 60 * self.index, 600);
        let mut data = json!({
            "totalCapacity": self.capacity,
            "totalUsed": self.used_at_start + growth + wave,
            "totalAllocation": self.capacity / 10 * 9,
        });
        if let (0, Some(data)) = (self.index % 3, data.as_object_mut()) {
            data.insert("quota".to_owned(), (self.capacity / GIGABYTE).to_string().into());
        }
        data
    }
}

/// Rises from 0 to half of `period` and falls again.
fn triangle(seconds: u64, period: u64) -> u64 {
    let phase = seconds % period;
    phase.min(period - phase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_moves_and_stays_below_the_capacity() {
        for account in (Roster { accounts: 3 }).accounts() {
            let used = |seconds| account.usage(Duration::from_secs(seconds))["totalUsed"].as_u64().unwrap();
            assert!(used(3600) > used(0));
            assert!((0..50_000).step_by(7).all(|second| used(second) < account.capacity));
        }
    }
}
