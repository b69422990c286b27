//! What the listener answers while all is well.

use reqwest::Method;

use crate::support::{Exporter, Files, Page, Upstream, client};

const ALIASES: [&str; 3] = ["production", "finance", "archive"];

async fn polled_exporter(files: &Files, upstream: &Upstream) -> Exporter {
    let config = files.write("k.yml", upstream.configuration("1m"));
    let mut exporter = Exporter::start(&config, &["--log.level", "debug"]).await;
    exporter.line_of_each(&ALIASES, "poll succeeded").await;
    exporter
}

#[tokio::test]
async fn metrics_show_the_upstreams_numbers_in_bytes() {
    let (files, upstream) = (Files::new(), Upstream::start(3).await);
    let exporter = polled_exporter(&files, &upstream).await;
    let page = exporter.get("/metrics").await;
    assert_eq!(page.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    for account in upstream.roster.accounts() {
        let sent = upstream.simulator.record(&account.user_id).unwrap().latest.unwrap();
        for (family, field) in [
            ("koodrive_space_capacity_bytes", "totalCapacity"),
            ("koodrive_space_used_bytes", "totalUsed"),
            ("koodrive_space_allocated_bytes", "totalAllocation"),
        ] {
            let (alias, number) = (&account.alias, sent[field].as_f64().unwrap());
            assert_eq!(page.value(&format!("{family}{{account=\"{alias}\"}}")), Some(number * 1024.0));
            let reported = format!("koodrive_space_reported{{account=\"{alias}\",field=\"{field}\"}}");
            assert_eq!(page.value(&reported), Some(number));
        }
        assert_eq!(page.value(&format!("koodrive_up{{account=\"{}\"}}", account.alias)), Some(1.0));
    }
    assert_eq!(page.value(r#"koodrive_space_quota_bytes{account="production"}"#), Some(2f64.powi(42)));
    assert_eq!(page.value(r#"koodrive_exporter_api_requests_total{code="2xx"}"#), Some(3.0));
}

#[tokio::test]
async fn the_families_and_their_order_are_as_documented() {
    let (files, upstream) = (Files::new(), Upstream::start(3).await);
    let exporter = polled_exporter(&files, &upstream).await;
    let page = exporter.get("/metrics").await;
    let headers = page.body.lines().filter(|line| line.starts_with('#') && !line.contains(" process_"));
    insta::assert_snapshot!(headers.collect::<Vec<_>>().join("\n"));
}

#[tokio::test]
async fn an_alias_cannot_break_out_of_the_status_page() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let yaml = upstream.configuration("1m").replace("production:", "'<b onclick=\"x\">&':");
    let exporter = Exporter::start(&files.write("k.yml", yaml), &[]).await;
    let page = exporter.get("/").await;
    assert!(page.body.contains("<th scope=\"row\">&lt;b onclick=&quot;x&quot;&gt;&amp;</th>"), "{}", page.body);
    assert!(!page.body.contains("<b "), "{}", page.body);
}

#[tokio::test]
async fn a_count_of_allocations_is_no_amount_of_bytes() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let yaml = format!("units: {{ total_allocation: count, total_capacity: GB }}\n{}", upstream.configuration("1m"));
    let mut exporter = Exporter::start(&files.write("k.yml", yaml), &["--log.level", "debug"]).await;
    exporter.line_of_each(&["production"], "poll succeeded").await;
    let page = exporter.get("/metrics").await;
    let sent = upstream.simulator.record(&upstream.user_id(0)).unwrap().latest.unwrap();
    assert_eq!(page.value(r#"koodrive_space_allocations{account="production"}"#), sent["totalAllocation"].as_f64());
    assert!(!page.body.contains("koodrive_space_allocated_bytes"));
    let capacity = sent["totalCapacity"].as_f64().unwrap() * 2f64.powi(30);
    assert_eq!(page.value(r#"koodrive_space_capacity_bytes{account="production"}"#), Some(capacity));
}

#[tokio::test]
async fn health_and_readiness_answer_and_show_the_accounts_state() {
    let (files, upstream) = (Files::new(), Upstream::start(3).await);
    let exporter = polled_exporter(&files, &upstream).await;
    for path in ["/-/healthy", "/health"] {
        assert_eq!((exporter.get(path).await.status, exporter.get(path).await.body.as_str()), (200, "healthy\n"));
    }
    assert_eq!(exporter.get("/-/ready").await.status, 200);
    let request = client().get(format!("{}/health", exporter.url)).header("accept", "application/json");
    let page = Page::of(request.send().await.unwrap()).await;
    let json: serde_json::Value = serde_json::from_str(&page.body).unwrap();
    assert_eq!(json["healthy"], true);
    assert!(ALIASES.iter().all(|alias| json["accounts"][alias]["up"] == true));
}

#[tokio::test]
async fn the_exporter_is_not_ready_before_each_account_has_been_tried() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let yaml = upstream.configuration("1m").replace(&upstream.url, &format!("http://{}", silent.local_addr().unwrap()));
    let exporter = Exporter::start(&files.write("k.yml", yaml), &[]).await;
    let _accepted = silent.accept().await.unwrap();
    assert_eq!(exporter.get("/-/ready").await.status, 503);
    assert_eq!(exporter.get("/-/healthy").await.status, 200);
    let page = exporter.get("/metrics").await;
    assert_eq!(page.value(r#"koodrive_up{account="production"}"#), None, "it is not known yet");
    assert_eq!(page.value(r#"koodrive_poll_last_success_timestamp_seconds{account="production"}"#), Some(0.0));
    assert!(!page.body.contains("koodrive_space_"), "no numbers before the first success");
}

#[tokio::test]
async fn pages_take_get_and_head_alone() {
    let (files, upstream) = (Files::new(), Upstream::start(3).await);
    let exporter = polled_exporter(&files, &upstream).await;
    let client = client();
    let check = async |path: &str| {
        let url = format!("{}{path}", exporter.url);
        let head = Page::of(client.head(&url).send().await.unwrap()).await;
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        assert_ne!(head.header("content-length"), "0", "{path}");
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH] {
            let page = Page::of(client.request(method, &url).send().await.unwrap()).await;
            assert_eq!((page.status, page.header("allow")), (405, "GET, HEAD"), "{path}");
        }
    };
    for path in ["/", "/-/healthy", "/health", "/-/ready"] {
        check(path).await;
    }
    assert_eq!(exporter.get("/nonexistent").await.status, 404);
    assert_eq!(exporter.get("/metrics/").await.status, 404);
    let page = exporter.get("/metrics").await;
    assert_eq!(page.value(r#"koodrive_exporter_http_requests_total{code="405",handler="status"}"#), Some(5.0));
    assert_eq!(page.value(r#"koodrive_exporter_http_requests_total{code="404",handler="other"}"#), Some(2.0));
    check("/metrics").await;
}

#[tokio::test]
async fn the_status_page_shows_each_account_and_loads_nothing_from_outside() {
    let (files, upstream) = (Files::new(), Upstream::start(3).await);
    let exporter = polled_exporter(&files, &upstream).await;
    let page = exporter.get("/").await;
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(page.body.contains("3 of 3 accounts up") && ALIASES.iter().all(|alias| page.body.contains(alias)));
    assert!(!page.body.contains("<script") && !page.body.contains("src=") && !page.body.contains("http://"));
}

#[tokio::test]
async fn json_log_lines_bear_their_fields() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let config = files.write("k.yml", upstream.configuration("1m"));
    let mut exporter = Exporter::start(&config, &["--log.level", "debug", "--log.format", "json"]).await;
    let line = exporter.line(|line| line.contains("poll succeeded")).await;
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&json["level"], &json["account"]), (&"DEBUG".into(), &"production".into()));
    assert_eq!(json["trace_id"].as_str().unwrap().len(), 58);
    assert!(json["duration"].as_f64().unwrap() > 0.0);
    let log = exporter.log();
    assert!(log.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{log}");
}

#[tokio::test]
async fn many_accounts_with_a_long_interval_are_polled_and_ready_soon_after_the_start() {
    let (files, upstream) = (Files::new(), Upstream::start(200).await);
    let mut exporter =
        Exporter::start(&files.write("k.yml", upstream.configuration("15m")), &["--log.level=debug"]).await;
    let aliases: Vec<String> = upstream.roster.accounts().map(|account| account.alias).collect();
    let aliases: Vec<&str> = aliases.iter().map(String::as_str).collect();
    let page = exporter.get("/metrics").await;
    assert!(
        !page.body.lines().any(|line| line.starts_with("koodrive_up{") && line.ends_with(" 0")),
        "nobody was asked"
    );
    exporter.line_of_each(&aliases, "poll succeeded").await;
    assert_eq!(exporter.get("/-/ready").await.status, 200);
}
