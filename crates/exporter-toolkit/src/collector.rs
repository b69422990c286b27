//! What an exporter shows.

use std::io;

use crate::{Encoder, Paths, landing_page, metrics::WebConfigState};

/// What an exporter shows: metrics, and if it wants, its health and a page for people.
///
/// Its functions are called on a thread of the toolkit's own (health and readiness: for each request), may be called at
/// any time, and must not wait for anything that can take long.
pub trait Collector: Send + Sync + 'static {
    /// Writes all families as they are now.
    fn collect(&self, encoder: &mut Encoder);

    /// Counts the changes of what is shown. As long as it stays the same, scrapes share one page for up to a second,
    /// or until [`Encoder::valid_until`]. Without a count, only scrapes that wait at the same time share one.
    fn changes(&self) -> Option<u64> {
        None
    }

    /// Whether the exporter works: `/-/healthy`.
    ///
    /// # Errors
    /// Says why it does not.
    fn health(&self) -> Result<(), String> {
        Ok(())
    }

    /// Whether the exporter is ready for scrapes: `/-/ready`.
    ///
    /// # Errors
    /// Says why it is not.
    fn readiness(&self) -> Result<(), String> {
        Ok(())
    }

    /// Writes the health in JSON, one object, for those who may read the metrics.
    ///
    /// # Errors
    /// Those of `page`, which has none.
    fn health_details(&self, page: &mut dyn io::Write) -> io::Result<()> {
        page.write_all(health_json(self.health().is_ok()).as_bytes())
    }

    /// Writes the page at `/`, in HTML. With the query `refresh=SECONDS`, browsers load it again and again.
    ///
    /// # Errors
    /// Those of `page`, which has none.
    fn landing_page(
        &self,
        page: &mut dyn io::Write,
        paths: &Paths,
        web_config: Option<WebConfigState>,
    ) -> io::Result<()> {
        let _ = web_config;
        page.write_all(landing_page::links(paths).as_bytes())
    }

    /// The `Content-Security-Policy` header of the page at `/`.
    fn content_security_policy(&self) -> &'static str {
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    }
}

pub(crate) fn health_json(healthy: bool) -> String {
    format!("{{\"healthy\":{healthy}}}\n")
}
