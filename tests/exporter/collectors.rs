//! The collectors beside the overview: what they show, how they fail alone, and what they say of units.

use std::collections::BTreeMap;

use koodrive_simulator::{Endpoint, Fault, Field, Unit};
use serde_json::{Value, json};

use crate::support::{Exporter, Files, Page, Upstream, binary, client};

const ALL: &str = "collectors: [overview, usage, subscription]\n";

async fn started(files: &Files, upstream: &Upstream) -> Exporter {
    let yaml = ALL.to_owned() + &upstream.configuration("1s");
    Exporter::start(&files.write("k.yml", yaml), &["--log.level=debug"]).await
}

/// The exposition, once it has this value.
async fn page_with(exporter: &Exporter, series: &str, value: f64) -> Page {
    loop {
        let page = exporter.get("/metrics").await;
        if page.value(series) == Some(value) {
            return page;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

fn up(collector: &str) -> String {
    format!(r#"koodrive_collector_up{{account="production",collector="{collector}"}}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_and_subscription_are_shown_beside_the_overview() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let exporter = started(&files, &upstream).await;
    page_with(&exporter, &up("usage"), 1.0).await;
    page_with(&exporter, &up("subscription"), 1.0).await;
    let page = page_with(&exporter, r#"koodrive_units_doubtful{account="production",field="totalUsed"}"#, 0.0).await;
    let tebibyte = 2f64.powi(40);
    for (series, value) in [
        (r#"koodrive_up{account="production"}"#, 1.0),
        (r#"koodrive_tenant_capacity_bytes{account="production"}"#, 4.0 * tebibyte),
        (r#"koodrive_users_max{account="production"}"#, 4096.0),
        (r#"koodrive_users{account="production"}"#, 3468.0),
        (r#"koodrive_kind_quota_bytes{account="production",kind="personal"}"#, 2457.0 * 2f64.powi(30)),
        (r#"koodrive_usage_reported{account="production",field="spaceCapacity"}"#, 4096.0),
        (r#"koodrive_service_frozen{account="production"}"#, 0.0),
        (r#"koodrive_new_space_bytes{account="production",kind="department"}"#, 500.0 * 2f64.powi(30)),
        (r#"koodrive_collector_interval_seconds{account="production",collector="usage"}"#, 1.0),
    ] {
        assert_eq!(page.value(series), Some(value), "{series}");
    }
    let parts = ["personal", "department", "group"]
        .map(|kind| page.value(&format!(r#"koodrive_kind_used_bytes{{account="production",kind="{kind}"}}"#)).unwrap());
    assert_eq!(Some(parts.iter().sum()), page.value(r#"koodrive_tenant_used_bytes{account="production"}"#));
    for private in ["simulated-tenant", "A simulated organisation"] {
        assert!(!page.body.contains(private), "{private} is shown");
    }
    let health = client().get(format!("{}/health", exporter.url)).header("accept", "application/json");
    let health: Value = serde_json::from_str(&health.send().await.unwrap().text().await.unwrap()).unwrap();
    let status = exporter.get("/").await.body;
    assert!(status.contains("3468 of 4096") && status.contains("Usage and subscription"), "{status}");
    assert_eq!(health["accounts"]["production"]["collectors"]["usage"]["up"], true, "{health}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_carrier_edition_lacks_the_further_endpoints_and_its_account_is_up() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    for endpoint in [Endpoint::Usage, Endpoint::Subscription] {
        upstream.simulator.set_fault_of(&upstream.user_id(0), endpoint, Some(Fault::Status { status: 404 }));
    }
    let mut exporter = started(&files, &upstream).await;
    let failing = exporter.line(|line| line.contains("account polls failing")).await;
    assert!(failing.contains("collector=") && failing.contains("reason=http_status"), "{failing}");
    page_with(&exporter, &up("usage"), 0.0).await;
    let page = page_with(&exporter, &up("subscription"), 0.0).await;
    let info = r#"koodrive_collector_failure_info{account="production",collector="usage",reason="http_status"}"#;
    assert_eq!(page.value(info), Some(1.0));
    assert_eq!(page.value(r#"koodrive_up{account="production"}"#), Some(1.0));
    assert_eq!(page.value(r#"koodrive_poll_failures_total{account="production",reason="http_status"}"#), Some(0.0));
    assert_eq!(page.value(r#"koodrive_users{account="production"}"#), None);
    assert_eq!(exporter.get("/-/healthy").await.status, 200);
    assert_eq!(exporter.get("/-/ready").await.status, 200);

    let (online, code) = check_online(&files.path("k.yml"), &[]);
    assert_eq!(code, Some(4), "the configuration asks for them");
    assert!(online.contains("usage: collectors: this edition of KooDrive lacks it"), "{online}");
    let without = files.write("without.yml", upstream.configuration("1m"));
    let (online, code) = check_online(&without, &[]);
    assert_eq!((code, online.contains("production  good   ")), (Some(0), true), "{online}");
    // Nothing confirms the units, and the numbers are strange.
    let wrong = files.write("wrong.yml", format!("units: {{ total_capacity: MB }}\n{}", upstream.configuration("1m")));
    let (online, code) = check_online(&wrong, &[]);
    assert_eq!((code, online.contains("production  good, unit?  ")), (Some(0), true), "{online}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_faulty_field_of_the_usage_costs_its_own_series_alone() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let numbers = json!({ "spaceCapacity": 4096, "spaceUsed": -1, "userCount": 7 });
    upstream.simulator.set_numbers_of(&upstream.user_id(0), Endpoint::Usage, Some(numbers));
    upstream.simulator.set_numbers_of(&upstream.user_id(0), Endpoint::Subscription, Some(json!({ "status": 2 })));
    let exporter = started(&files, &upstream).await;
    page_with(&exporter, &up("subscription"), 0.0).await;
    let page = page_with(&exporter, &up("usage"), 0.0).await;
    let info = r#"koodrive_collector_failure_info{account="production",collector="usage",reason="invalid_data"}"#;
    assert_eq!(page.value(info), Some(1.0));
    assert_eq!(page.value(r#"koodrive_users{account="production"}"#), Some(7.0));
    assert_eq!(page.value(r#"koodrive_tenant_used_bytes{account="production"}"#), None);
    assert_eq!(page.value(r#"koodrive_service_frozen{account="production"}"#), None, "an unknown status is no 0");
    assert_eq!(page.value(r#"koodrive_up{account="production"}"#), Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_the_usage_contradicts_is_doubtful_and_logged_once() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let units = BTreeMap::from([(Field::Capacity, Unit::GB)]);
    upstream.simulator.set_units(&upstream.user_id(0), units);
    let mut exporter = started(&files, &upstream).await;
    let line = exporter.line(|line| line.contains("configured unit contradicts the usage")).await;
    assert!(
        line.contains("configured as KB and so shown 1048576 times too small: set units.total_capacity: GB"),
        "{line}"
    );
    let doubtful = |field: &str| format!(r#"koodrive_units_doubtful{{account="production",field="{field}"}}"#);
    let page = page_with(&exporter, &doubtful("totalCapacity"), 1.0).await;
    assert_eq!(page.value(&doubtful("totalUsed")), Some(0.0));
    for _ in 0..6 {
        exporter.line(|line| line.contains("poll succeeded") && line.contains("collector=usage")).await;
    }
    assert_eq!(exporter.log().matches("configured unit contradicts the usage").count(), 1);
    let status = exporter.get("/").await.body;
    assert!(status.contains("The numbers of production, and the alerts on them, may be wrong"), "{status}");

    // The overview alone is configured, and asks the usage all the same.
    let config = files.write("k.yml", upstream.configuration("1m"));
    let (online, code) = check_online(&config, &[]);
    assert_eq!(code, Some(4), "its numbers are wrong");
    assert!(online.contains("production  wrong unit") && online.contains("set units.total_capacity: GB"), "{online}");
    let (json, _) = check_online(&config, &["--output=json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        json["accounts"][0]["units"][0],
        json!({
            "field": "totalCapacity", "configured": "KB", "fits": "GB", "doubtful": true
        })
    );
    let right = format!("units: {{ total_capacity: GB }}\n{}", upstream.configuration("1m"));
    let (online, code) = check_online(&files.write("k.yml", right), &["--verbose"]);
    assert_eq!(code, Some(0));
    assert!(online.contains("totalCapacity is GB on this account, as configured"), "{online}");
    assert!(online.contains("production  good"), "{online}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_collector_polls_by_its_own_interval() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let yaml =
        upstream.configuration("1s, subscription: { interval: 1h }").replace("1s,", "1s, usage: { interval: 2s },");
    let mut exporter = Exporter::start(&files.write("k.yml", ALL.to_owned() + &yaml), &["--log.level=debug"]).await;
    for _ in 0..6 {
        exporter.line(|line| line.contains("poll succeeded") && line.contains("collector=overview")).await;
    }
    let record = upstream.simulator.record(&upstream.user_id(0)).unwrap();
    let of = |endpoint| record.by_endpoint.get(&endpoint).copied().unwrap_or_default();
    assert_eq!(of(Endpoint::Subscription), 1);
    assert!(of(Endpoint::Usage) >= 1 && of(Endpoint::Usage) < of(Endpoint::Overview), "{record:?}");
    let requests: u64 = record.by_endpoint.values().sum();
    assert_eq!(record.requests, requests);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_adds_and_removes_a_collector_and_keeps_the_others() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let config = files.write("k.yml", upstream.configuration("1s"));
    let mut exporter = Exporter::start(&config, &["--log.level=debug"]).await;
    exporter.line(|line| line.contains("poll succeeded")).await;
    let before = exporter.get("/metrics").await;
    assert!(!before.body.contains("koodrive_collector_"), "nothing is shown of collectors that are not configured");
    std::fs::write(&config, ALL.to_owned() + &upstream.configuration("1s")).unwrap();
    exporter.signal("-HUP");
    let line = exporter.line(|line| line.contains("configuration reloaded")).await;
    assert!(line.contains("1 accounts: 0 added, 1 changed, 0 removed"), "{line}");
    let page = page_with(&exporter, &up("usage"), 1.0).await;
    let polls = r#"koodrive_polls_total{account="production"}"#;
    assert!(page.value(polls) >= before.value(polls));
    std::fs::write(&config, upstream.configuration("1s")).unwrap();
    exporter.signal("-HUP");
    let line = exporter.line(|line| line.contains("configuration reloaded")).await;
    assert!(line.contains("0 added, 1 changed, 0 removed"), "{line}");
    assert_eq!(exporter.get("/metrics").await.value(&up("usage")), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_of_which_nothing_comes_holds_up_no_readiness_and_its_units_reset_nothing_else() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let hanging = Fault::Delay { milliseconds: 60_000 };
    upstream.simulator.set_fault_of(&upstream.user_id(0), Endpoint::Usage, Some(hanging));
    let yaml = ALL.to_owned() + &upstream.configuration("1h, timeout: 50s");
    let config = files.write("k.yml", &yaml);
    let mut exporter = Exporter::start(&config, &["--log.level=debug"]).await;
    exporter.line(|line| line.contains("poll succeeded") && line.contains("collector=overview")).await;
    assert_eq!(exporter.get("/-/ready").await.status, 200);
    std::fs::write(&config, format!("units: {{ usage: {{ reserved_space_quota: MB }} }}\n{yaml}")).unwrap();
    exporter.signal("-HUP");
    let line = exporter.line(|line| line.contains("configuration reloaded")).await;
    assert!(line.contains("1 accounts: 0 added, 1 changed, 0 removed"), "{line}");
    assert!(line.contains("keys=accounts.production.units.usage.reserved_space_quota"), "{line}");
    let page = exporter.get("/metrics").await;
    assert_eq!(page.value(r#"koodrive_up{account="production"}"#), Some(1.0));
    assert_eq!(page.value(r#"koodrive_polls_total{account="production"}"#), Some(1.0));
}

#[test]
fn collectors_are_named_and_contain_the_overview() {
    let files = Files::new();
    for (collectors, expected) in [
        ("[usage]", "must contain overview, which says whether an account is up"),
        ("[overview, userList]", "must be overview, usage or subscription"),
    ] {
        let yaml = format!(
            "collectors: {collectors}\naccounts: {{ a: {{ user_id: \"1\", auth: {{ type: token, token: t }} }} }}\n"
        );
        let output = crate::support::run(["check", "--config.file", files.write("k.yml", yaml).to_str().unwrap()], &[]);
        assert_eq!(output.status.code(), Some(3));
        assert!(crate::support::stderr(&output).contains(expected), "{collectors}");
    }
}

fn check_online(config: &std::path::Path, flags: &[&str]) -> (String, Option<i32>) {
    let output = tokio::task::block_in_place(|| {
        binary().args(["check", "--online", "--config.file"]).arg(config).args(flags).output().unwrap()
    });
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}
