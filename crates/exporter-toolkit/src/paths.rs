//! Where the pages are.

/// Where the pages are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Where the metrics are, below `prefix`; begins with `/`.
    pub telemetry: String,
    /// What the path of each request begins with: nothing, or `/` and no `/` at its end.
    pub prefix: String,
    /// What a link to a page begins with: as `prefix`, or an external URL.
    pub links: String,
}

impl Default for Paths {
    fn default() -> Self {
        Self { telemetry: "/metrics".to_owned(), prefix: String::new(), links: String::new() }
    }
}

impl Paths {
    /// The path of requests for the landing page.
    #[must_use]
    pub fn landing_page(&self) -> String {
        format!("{}/", self.prefix)
    }
}
