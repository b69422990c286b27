//! Which pages an exporter has, and how each is made.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use hyper::header::HeaderValue;
use tracing::warn;

use crate::{
    collector::Collector,
    encoder::{Encoder, Format},
    exporter::Options,
    metrics::ServerMetrics,
    output::{Coding, Content, Output},
    pages::{Page, PageMaker},
};

/// The pages that requests share. The two text formats have the same bytes.
pub(crate) struct PageSet {
    text: Compressed,
    open_metrics: Compressed,
    open_metrics_created: Compressed,
    pub(crate) landing_page: LandingPage,
    pub(crate) health: Page,
}

pub(crate) struct LandingPage {
    pub(crate) page: Page,
    pub(crate) content_security_policy: Option<HeaderValue>,
}

/// What is scraped.
#[derive(Clone)]
struct Exposition {
    collector: Arc<dyn Collector>,
    metrics: Arc<ServerMetrics>,
    namespace: Option<String>,
}

impl Exposition {
    fn encode(&self, format: Format, coding: Coding) -> Content {
        let mut encoder = Encoder::new(format, coding);
        self.collector.collect(&mut encoder);
        if let Some(namespace) = &self.namespace {
            self.metrics.write(namespace, &mut encoder);
        }
        encoder.into_content()
    }
}

/// A page in both codings.
struct Compressed {
    plain: Page,
    gzip: Page,
}

impl PageSet {
    pub(crate) fn new(
        collector: &Arc<dyn Collector>,
        options: &Options,
        metrics: &Arc<ServerMetrics>,
    ) -> io::Result<Self> {
        let (counted, uncounted) = (Arc::clone(collector), AtomicU64::new(0));
        let changes = move || counted.changes().unwrap_or_else(|| uncounted.fetch_add(1, Ordering::Relaxed));
        let maker = PageMaker::start(changes)?;
        let (collector, metrics) = (Arc::clone(collector), Arc::clone(metrics));
        let exposition = Exposition { collector, metrics, namespace: options.namespace.clone() };
        let Exposition { collector, metrics, .. } = &exposition;
        let compressed = |format| {
            let page = |coding| {
                let exposition = exposition.clone();
                maker.page(move || exposition.encode(format, coding))
            };
            Compressed { plain: page(Coding::Identity), gzip: page(Coding::Gzip) }
        };
        let (shown, paths, server) = (Arc::clone(collector), options.paths.clone(), Arc::clone(metrics));
        let landing_page = LandingPage {
            content_security_policy: HeaderValue::from_str(collector.content_security_policy()).ok(),
            page: maker.page(move || text(|page| shown.landing_page(page, &paths, server.web_config()))),
        };
        let shown = Arc::clone(collector);
        let health = maker.page(move || text(|page| shown.health_details(page)));
        Ok(Self {
            text: compressed(Format::Text0),
            open_metrics: compressed(Format::OpenMetrics),
            open_metrics_created: compressed(Format::OpenMetricsCreated),
            landing_page,
            health,
        })
    }

    pub(crate) fn of(&self, format: Format, coding: Coding) -> &Page {
        let page = match format {
            Format::Text0 | Format::Text1 => &self.text,
            Format::OpenMetrics => &self.open_metrics,
            Format::OpenMetricsCreated => &self.open_metrics_created,
        };
        match coding {
            Coding::Identity => &page.plain,
            Coding::Gzip => &page.gzip,
        }
    }
}

fn text(write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> Content {
    let mut page = Output::new(Coding::Identity);
    // Writing to memory cannot fail, but what is written may.
    if let Err(error) = write(&mut page) {
        warn!(%error, "cannot write page");
    }
    page.into_content(None)
}

pub(crate) fn health_json(healthy: bool) -> String {
    format!("{{\"healthy\":{healthy}}}\n")
}
