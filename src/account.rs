//! An account as it is configured: what to ask the API for, and when.

use std::{path::PathBuf, sync::Arc, time::Duration};

use koodrive::{
    Resource, Unit,
    overview::{OVERVIEW, TOTAL_ALLOCATION},
};

use crate::human;

/// One KooDrive account as configured, for one of its collectors: each is polled by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The configured name: the value of the `account` label.
    pub alias: String,
    /// What the account is asked for.
    pub collector: &'static Resource,
    /// What requests are made of.
    pub api: Arc<koodrive::Account>,
    /// The file of `api.transport.extra_roots`, where there is one. Its changes are followed.
    pub ca_file: Option<PathBuf>,
    /// When the collector polls and for how long its values hold.
    pub poll: PollPolicy,
}

impl Account {
    /// The account with other authorities that are trusted beside the system's.
    #[must_use]
    pub fn with_roots(&self, extra_roots: Arc<[u8]>) -> Self {
        let mut api = koodrive::Account::clone(&self.api);
        api.transport.extra_roots = extra_roots;
        Self { api: Arc::new(api), ..self.clone() }
    }

    /// Whether this is the overview, which every account has and which says whether it is up.
    #[must_use]
    pub fn is_overview(&self) -> bool {
        self.collector == &OVERVIEW
    }

    /// Whether the overview's allocation is a number of allocations, and no space.
    #[must_use]
    pub fn counts_allocations(&self) -> bool {
        self.api.units.of(&OVERVIEW, TOTAL_ALLOCATION) == Some(Unit::Count)
    }

    /// The overview's allocation for people.
    #[must_use]
    pub fn allocation(&self, value: f64) -> String {
        if self.counts_allocations() { value.to_string() } else { human::bytes(value) }
    }

    /// Whether the numbers that are known of `other` are this account's, too: the same user at the same endpoint, read
    /// in the same units. A further collector's numbers are compared with the overview's.
    #[must_use]
    pub fn has_the_numbers_of(&self, other: &Self) -> bool {
        let (own, other) = (&self.api, &other.api);
        own.endpoint == other.endpoint
            && own.user_id == other.user_id
            && [self.collector, &OVERVIEW].iter().all(|resource| own.units.agree_on(&other.units, resource))
    }
}

#[cfg(test)]
impl Account {
    /// An account with a token, polled once a minute.
    pub(crate) fn example(alias: &str) -> Self {
        let minute = Duration::from_mins(1);
        let api = koodrive::Account {
            endpoint: koodrive::Endpoint::parse("https://h.example").unwrap(),
            user_id: koodrive::UserId::parse("1").unwrap(),
            language: koodrive::Language::default(),
            credential: koodrive::Credential::Token {
                token: koodrive::Secret::inline("auth.token", "t").unwrap(),
                prefix: String::new(),
            },
            units: koodrive::Units::default(),
            transport: koodrive::Transport::default(),
        };
        let poll = PollPolicy { interval: minute, timeout: minute, max_age: minute * 3 };
        Self { alias: alias.to_owned(), collector: &OVERVIEW, api: Arc::new(api), ca_file: None, poll }
    }
}

/// How many accounts these are, each of which comes once for each of its collectors.
#[must_use]
pub fn count(accounts: &[Arc<Account>]) -> usize {
    accounts.iter().filter(|account| account.is_overview()).count()
}

/// When a collector polls and for how long its values hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollPolicy {
    /// From one poll to the next.
    pub interval: Duration,
    /// The bound on one whole poll; never more than `interval`.
    pub timeout: Duration,
    /// Older values are no longer shown; never less than `interval`.
    pub max_age: Duration,
}
