//! What scrapes get: formats, compression, and one body for all of them.

use std::{
    io::Read,
    sync::{
        Arc, Mutex,
        mpsc::{Sender, channel},
    },
    time::Duration,
};

use exporter_toolkit::{Coding, Exporter as Served, Format, Options, Routes, SharedBody};
use flate2::read::GzDecoder;
use http_body_util::BodyExt;
use hyper::{Request, Response};
use koodrive::{
    Exchange,
    overview::{OVERVIEW, TOTAL_USED},
};
use koodrive_exporter::{
    clock::WallClock,
    collector::KooDrive,
    metrics::{Exposition, OwnMetrics},
};
use tokio::task::{JoinHandle, JoinSet};

use crate::{
    fake::{Fake, INSTANTLY, Loops, MINUTE, answer_with},
    support::{Exporter, Files, Page, Upstream, client},
};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// An upstream whose three numbers are all the request's own.
fn numbered() -> Arc<Fake> {
    Arc::new(Fake::new(|request| (INSTANTLY, numbers(request))))
}

fn numbers(number: usize) -> Exchange {
    let body =
        format!(r#"{{"code":0,"data":{{"totalCapacity":{number},"totalUsed":{number},"totalAllocation":{number}}}}}"#);
    answer_with(200, &body)
}

/// The first account's capacity, use and allocation in a body, as the API gave them.
fn shown(body: &[u8]) -> Vec<f64> {
    let text = std::str::from_utf8(body).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("koodrive_space_reported{account=\"account-0000\","));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect()
}

/// The pieces of a scrape's body.
async fn scrape(routes: &Routes, coding: &str) -> Vec<bytes::Bytes> {
    let request = Request::get("/metrics").header("accept-encoding", coding).body(()).unwrap();
    let (mut body, mut pieces) = (routes.answer(&request).await.into_body(), Vec::new());
    while let Some(frame) = body.frame().await {
        pieces.push(frame.unwrap().into_data().unwrap());
    }
    pieces
}

async fn text(routes: &Routes) -> bytes::Bytes {
    let _stopped = StoppedClock::new();
    scrape(routes, "identity").await.remove(0)
}

/// A paused clock runs on while the runtime has nothing to do, even if another thread has. While one of the
/// runtime's own blocking tasks waits, it stands still.
struct StoppedClock {
    _until_dropped: std::sync::mpsc::Sender<()>,
}

impl StoppedClock {
    fn new() -> Self {
        let (sender, dropped) = std::sync::mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || dropped.recv());
        Self { _until_dropped: sender }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stampede_of_scrapes_is_encoded_once() {
    let loops = Loops::start(3, 16, &numbered());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let routes = loops.routes();
    for coding in ["identity", "gzip"] {
        let _stopped = StoppedClock::new();
        let mut scrapes = JoinSet::new();
        for _ in 0..100 {
            let routes = routes.clone();
            scrapes.spawn(async move { scrape(&routes, coding).await });
        }
        let bodies = scrapes.join_all().await;
        assert!(bodies.iter().all(|body| body[0].as_ptr() == bodies[0][0].as_ptr()), "all share one buffer");
    }
}

#[tokio::test(start_paused = true)]
async fn a_polls_result_is_in_the_very_next_scrape() {
    let upstream = numbered();
    let loops = Loops::each(1, 16, Duration::from_millis(60), |_| Arc::clone(&upstream));
    let routes = loops.routes();
    for _ in 0..200 {
        tokio::time::sleep(INSTANTLY * 7).await;
        let state = loops.store.entries()[0].state();
        let known = state.numbers.as_ref().map(|numbers| numbers.answer.measure(TOTAL_USED).unwrap().reported);
        assert_eq!(shown(&text(&routes).await).first().copied(), known);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_is_shared_until_something_changes_or_a_second_has_passed_or_a_value_is_stale() {
    let upstream =
        Arc::new(Fake::new(|request| if request == 0 { (INSTANTLY, numbers(7)) } else { (100 * MINUTE, numbers(8)) }));
    let loops = Loops::start(1, 16, &upstream);
    let routes = loops.routes();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let first = text(&routes).await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(text(&routes).await.as_ptr(), first.as_ptr());
    tokio::time::sleep(Duration::from_millis(101)).await;
    let second = text(&routes).await;
    assert_ne!(second.as_ptr(), first.as_ptr());
    // The value was asked for within the first second: at 180.0 s its age is above 179 s and at most 180 s.
    tokio::time::sleep(Duration::from_secs(176)).await;
    while !shown(&text(&routes).await).is_empty() {
        tokio::time::sleep(INSTANTLY).await;
    }
    let asked = loops.store.entries()[0].state().latest.as_ref().unwrap().began.monotonic;
    let age = asked.elapsed();
    assert!(age >= 3 * MINUTE && age <= 3 * MINUTE + INSTANTLY * 3, "it vanished at the age of {age:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_scrape_shows_half_of_a_poll() {
    let upstream = Arc::new(Fake::new(|request| (Duration::ZERO, numbers(request))));
    let loops = Loops::each(1, 16, Duration::from_millis(2), |_| Arc::clone(&upstream));
    let routes = loops.routes();
    let mut scrapers = JoinSet::new();
    for _ in 0..2 {
        let routes = routes.clone();
        scrapers.spawn(async move {
            let mut latest = 0.0;
            while latest < 200.0 {
                // There are none before the first poll, nor while a busy machine lets them go stale.
                if let [number, others @ ..] = &shown(&text(&routes).await)[..] {
                    assert!(others == [*number; 2], "{number}, {others:?}");
                    assert!(*number >= latest, "older than before");
                    latest = *number;
                }
                tokio::task::yield_now().await;
            }
        });
    }
    scrapers.join_all().await;
}

/// What asks pages for a path that are not made before the first part is dropped.
fn held_up(options: &Options) -> (Sender<()>, impl Fn(&str) -> JoinHandle<Response<SharedBody>> + use<>) {
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let own = Arc::new(OwnMetrics::new(0.0).unwrap());
    own.count_dropped_log_lines(move || released.lock().unwrap().recv().map_or(0, |()| 0));
    let (exposition, clock) = (Exposition { store: Arc::default(), own }, WallClock::system());
    let routes = Served::new(KooDrive::new(exposition, clock, None)).routes(options).unwrap();
    let ask = move |path: &str| {
        let (routes, request) = (routes.clone(), Request::get(path).body(()).unwrap());
        tokio::spawn(async move { routes.answer(&request).await })
    };
    (release, ask)
}

#[tokio::test]
async fn requests_beyond_max_requests_get_503_while_others_wait_for_a_page() {
    let (release, ask) = held_up(&Options { max_requests: Some(1), ..Options::default() });
    let waiting = ask("/metrics");
    for path in ["/metrics", "/"] {
        let refused = ask(path).await.unwrap();
        assert_eq!(
            (refused.status().as_u16(), &refused.headers()["retry-after"]),
            (503, &"1".parse().unwrap()),
            "{path}"
        );
    }
    assert_eq!(ask("/-/healthy").await.unwrap().status(), 200);
    drop(release);
    assert_eq!(waiting.await.unwrap().status(), 200);
    assert_eq!(ask("/").await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_scrape_gets_the_families_alone_that_it_names() {
    let (files, upstream) = (Files::new(), Upstream::start(3).await);
    let exporter = Exporter::start(&files.write("k.yml", upstream.configuration("1m")), &[]).await;
    let families = async |query: &str| {
        // Scrapers ask for compression, and parts of a compressed page would be none.
        let coding = if query.contains("name[") { "gzip" } else { "identity" };
        let request = client().get(format!("{}/metrics{query}", exporter.url)).header("accept-encoding", coding);
        let page = Page::of(request.send().await.unwrap()).await;
        assert_eq!(page.header("content-encoding"), "");
        let types = page.body.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        types.map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    let two = ["koodrive_exporter_build_info", "koodrive_exporter_http_connections"];
    assert_eq!(
        families("?name[]=koodrive_exporter_http_connections&name%5B%5D=koodrive_exporter_build_info").await,
        two
    );
    assert_eq!(families("?name[]=of_nobody").await, Vec::<String>::new());
    let all = families("").await;
    assert_eq!(families("?name=koodrive_up&x[]=y").await, all);
    assert!(all.len() > 20, "{all:?}");
}

#[tokio::test]
async fn scrapes_with_names_that_pile_up_are_answered_and_hold_up_no_other() {
    let (release, ask) = held_up(&Options::default());
    let all = ask("/metrics");
    tokio::task::yield_now().await;
    // Their requests go away, and what they asked for waits.
    for _ in 0..100 {
        let gone = ask("/metrics?name[]=up");
        tokio::task::yield_now().await;
        gone.abort();
    }
    let waiting = [ask("/metrics?name[]=up"), ask("/"), all];
    tokio::task::yield_now().await;
    drop(release);
    for answer in waiting {
        assert_eq!(answer.await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn each_format_and_coding_comes_with_its_exact_headers() {
    let (files, upstream) = (Files::new(), Upstream::start(3).await);
    let exporter = Exporter::start(&files.write("k.yml", upstream.configuration("1m")), &[]).await;
    for (accept, content_type, end) in [
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", "\n"),
        ("text/plain;version=1.0.0", "text/plain; version=1.0.0; charset=utf-8", "\n"),
        ("application/openmetrics-text;version=1.0.0", OPENMETRICS, "\n# EOF\n"),
    ] {
        for coding in ["identity", "gzip"] {
            let url = format!("{}/metrics", exporter.url);
            let request =
                |method| client().request(method, &url).header("accept", accept).header("accept-encoding", coding);
            let head = request(reqwest::Method::HEAD).send().await.unwrap();
            let answer = request(reqwest::Method::GET).send().await.unwrap();
            for name in ["content-type", "content-encoding", "vary"] {
                assert_eq!(answer.headers().get(name), head.headers().get(name), "{name}");
            }
            let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(header("content-type").as_deref(), Some(content_type));
            assert_eq!(header("vary").as_deref(), Some("accept, accept-encoding"));
            assert_eq!(header("content-encoding").as_deref(), (coding == "gzip").then_some("gzip"));
            let mut text = String::new();
            let body = answer.bytes().await.unwrap();
            match coding {
                "gzip" => GzDecoder::new(&*body).read_to_string(&mut text).unwrap(),
                _ => (&*body).read_to_string(&mut text).unwrap(),
            };
            assert!(text.starts_with("# HELP koodrive_") && text.ends_with(end), "{text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_formats_are_as_their_golden_files_have_them() {
    let mut account = crate::fake::account("a \"quoted\" name, with \\ and ü", MINUTE).as_ref().clone();
    Arc::make_mut(&mut account.api).units.set(&OVERVIEW, "total_capacity", koodrive::Unit::GB);
    let exposition = crate::fake::polled_once(account, numbers(1_234_567)).await;
    for (name, format) in [
        ("text-0.0.4", Format::Text0),
        ("text-1.0.0", Format::Text1),
        ("openmetrics", Format::OpenMetrics),
        ("openmetrics-created", Format::OpenMetricsCreated),
    ] {
        let now = crate::fake::fixed_now();
        let text = String::from_utf8(exposition.encode(format, Coding::Identity, now).0.concat()).unwrap();
        // What depends on the machine and the build is left out.
        let lines = text.lines().filter(|line| !line.contains("process_") && !line.contains("build_info"));
        insta::assert_snapshot!(name, lines.collect::<Vec<_>>().join("\n"));
    }
}
