//! Which pages an exporter has, and how each is made.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tracing::warn;

use crate::{
    collector::Collector,
    encoder::{Encoder, Format},
    metrics::ServerMetrics,
    options::Options,
    output::{Coding, Content, Output},
    pages::{Page, PageMaker},
};

/// The pages that requests share, those of metrics in both codings. The two text formats have the same bytes.
pub(crate) struct PageSet {
    text: [Page; 2],
    open_metrics: [Page; 2],
    open_metrics_created: [Page; 2],
    pub(crate) landing_page: Page,
    pub(crate) health: Page,
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
        let (shown, server, namespace) = (Arc::clone(collector), Arc::clone(metrics), options.namespace.clone());
        let encode = Arc::new(move |format, coding| {
            let mut encoder = Encoder::new(format, coding);
            shown.collect(&mut encoder);
            if let Some(namespace) = &namespace {
                server.write(namespace, &mut encoder);
            }
            encoder.into_content()
        });
        let pages = |format| {
            [Coding::Identity, Coding::Gzip].map(|coding| {
                let encode = Arc::clone(&encode);
                maker.page(move || encode(format, coding))
            })
        };
        let (shown, paths, server) = (Arc::clone(collector), options.paths.clone(), Arc::clone(metrics));
        let landing_page = maker.page(move || text(|page| shown.landing_page(page, &paths, server.web_config())));
        let shown = Arc::clone(collector);
        let health = maker.page(move || text(|page| shown.health_details(page)));
        Ok(Self {
            text: pages(Format::Text0),
            open_metrics: pages(Format::OpenMetrics),
            open_metrics_created: pages(Format::OpenMetricsCreated),
            landing_page,
            health,
        })
    }

    pub(crate) fn of(&self, format: Format, coding: Coding) -> &Page {
        let [plain, gzip] = match format {
            Format::Text0 | Format::Text1 => &self.text,
            Format::OpenMetrics => &self.open_metrics,
            Format::OpenMetricsCreated => &self.open_metrics_created,
        };
        match coding {
            Coding::Identity => plain,
            Coding::Gzip => gzip,
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
