//! Hosts and servers whose clocks disagree, and secrets that change under a request.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use koodrive::{Credential, CredentialRead, Remedy, Secret, SecretSource, Stage};
use tokio::time::Instant;

use crate::{
    fake, scripted,
    scripted::Scripted,
    support::{Exporter, Files, Upstream},
};

const ALIASES: [&str; 3] = ["production", "finance", "archive"];

#[tokio::test]
async fn a_host_whose_clock_is_20_minutes_off_polls_all_the_same_and_warns_once() {
    for ahead in [-1200, 1200] {
        let (files, upstream) = (Files::new(), Upstream::start(3).await);
        upstream.simulator.set_clock_step(ahead);
        let config = files.write("k.yml", upstream.configuration("1s"));
        let mut exporter = Exporter::start(&config, &["--log.level=debug"]).await;
        exporter.line_of_each(&ALIASES, "poll succeeded").await;
        exporter.line_of_each(&ALIASES, "poll succeeded").await;
        let page = exporter.get("/metrics").await;
        for alias in ALIASES {
            let skew = page.value(&format!("koodrive_api_clock_skew_seconds{{account=\"{alias}\"}}")).unwrap();
            assert!((skew + f64::from(i32::try_from(ahead).unwrap())).abs() < 2.0, "{skew}");
            assert_eq!(page.value(&format!("koodrive_up{{account=\"{alias}\"}}")), Some(1.0));
        }
        let page = exporter.get("/").await.body;
        let side = if ahead > 0 { "behind" } else { "ahead of" };
        assert!(
            page.contains(&format!(" {side} that of the API")) && page.contains(">This host's clock is "),
            "{page}"
        );
        let log = exporter.log();
        assert_eq!(log.matches("level=warn").count(), 1, "{log}");
        assert_eq!(log.matches("correcting X-Date").count(), 1, "{log}");
    }
}

#[tokio::test]
async fn no_poll_is_lost_when_a_clock_jumps() {
    let (files, upstream) = (Files::new(), Upstream::start(3).await);
    let config = files.write("k.yml", upstream.configuration("1s"));
    let mut exporter = Exporter::start(&config, &["--log.level=debug"]).await;
    for ahead in [0, 3600, -7200, 0, 86_400] {
        upstream.simulator.set_clock_step(ahead);
        exporter.line_of_each(&ALIASES, "poll succeeded").await;
        exporter.line_of_each(&ALIASES, "poll succeeded").await;
    }
    let page = exporter.get("/metrics").await;
    let failures = page.body.lines().filter(|line| line.starts_with("koodrive_poll_failures_total"));
    assert!(failures.clone().count() == 33 && failures.into_iter().all(|line| line.ends_with(" 0")));
}

#[tokio::test]
async fn a_date_header_of_an_absurd_year_changes_no_x_date() {
    for absurd in ["Fri, 31 Dec 9999 23:59:59 GMT", "Thu, 01 Jan 1970 00:00:00 GMT"] {
        // Good answers without a date, and refusals without one, leave things as they are, too.
        let upstream = Scripted::start(move |number, _| match number {
            0 => scripted::good(Some(absurd)),
            1 => scripted::answer("400 Bad Request", Some(absurd), r#"{"code":13000001,"msg":"internal"}"#),
            _ => scripted::good(None),
        })
        .await;
        let files = Files::new();
        let mut exporter =
            Exporter::start(&files.write("k.yml", upstream.configuration()), &["--log.level=debug"]).await;
        for _ in 0..3 {
            exporter.line_of_each(&["production"], "poll succeeded").await;
        }
        assert_eq!(exporter.get("/metrics").await.value("koodrive_up{account=\"production\"}"), Some(1.0));
        assert!(upstream.dated_truly());
    }
}

#[tokio::test]
async fn an_api_that_shows_another_time_than_it_takes_stays_up() {
    let eight_hours = Duration::from_hours(8);
    let upstream = Scripted::start(move |_, error| {
        let date = scripted::date(eight_hours);
        if error.abs() < 900 {
            scripted::good(Some(&date))
        } else {
            scripted::answer("401 Unauthorized", Some(&date), r#"{"error_code":"APIGW.0301","error_msg":"expired"}"#)
        }
    })
    .await;
    let files = Files::new();
    let mut exporter = Exporter::start(&files.write("k.yml", upstream.configuration()), &["--log.level=debug"]).await;
    for _ in 0..5 {
        exporter.line_of_each(&["production"], "poll succeeded").await;
    }
    let page = exporter.get("/metrics").await;
    assert_eq!(page.value("koodrive_up{account=\"production\"}"), Some(1.0));
    assert!(upstream.dated_truly());
}

/// The host's clock is two hours behind the API's, as answers show but for one. Refusals show nothing, or yet another time.
#[tokio::test]
async fn one_wrong_date_header_costs_requests_and_no_account_that_works() {
    let (true_time, wrong) = (Duration::from_hours(2), Duration::from_hours(26));
    for of_refusals in [None, Some(wrong)] {
        let upstream = Scripted::start(move |number, error| {
            if (error - 7200).abs() < 900 {
                return scripted::good(Some(&scripted::date(if number == 4 { wrong } else { true_time })));
            }
            let ahead = if number == 0 { Some(true_time) } else { of_refusals };
            let date = ahead.map(scripted::date);
            scripted::answer("401 Unauthorized", date.as_deref(), r#"{"code":13000101,"msg":"expired"}"#)
        })
        .await;
        let files = Files::new();
        let mut exporter =
            Exporter::start(&files.write("k.yml", upstream.configuration()), &["--log.level=debug"]).await;
        for _ in 0..6 {
            exporter.line_of_each(&["production"], "poll succeeded").await;
        }
        let page = exporter.get("/metrics").await;
        let failures = "koodrive_poll_failures_total{account=\"production\",reason=\"auth\"}";
        assert_eq!(page.value(failures), Some(0.0), "{of_refusals:?}: {:?}", upstream.x_date_errors.lock().unwrap());
    }
}

/// Each second answer comes from somebody else: those to the requests that the right clock dates after a refusal.
#[tokio::test]
async fn a_poll_begins_with_the_other_clock_where_the_one_before_got_no_answer_to_it() {
    let two_hours = Duration::from_hours(2);
    for reload in [false, true] {
        let upstream = Scripted::start(move |number, error| {
            let date = scripted::date(two_hours);
            match number % 2 {
                1 => scripted::answer("403 Forbidden", None, "<html>blocked</html>"),
                _ if (error - 7200).abs() < 900 => scripted::good(Some(&date)),
                _ => scripted::answer("401 Unauthorized", Some(&date), r#"{"code":13000101,"msg":"expired"}"#),
            }
        })
        .await;
        let files = Files::new();
        let yaml = upstream.configuration().replace("200ms", "1s");
        let config = files.write("k.yml", &yaml);
        let mut exporter = Exporter::start(&config, &["--log.level=debug"]).await;
        exporter.line(|line| line.contains("account polls failing")).await;
        if reload {
            files.write("k.yml", format!("language: zh-CN\n{yaml}"));
            exporter.signal("-HUP");
        }
        exporter.line(|line| line.contains("account polls succeeding again")).await;
    }
}

/// The host's clock is right. One refusal comes for no reason, each refusal shows another wrong time, and somebody else
/// answers what comes right after one.
#[tokio::test]
async fn wrong_date_headers_of_refusals_keep_no_account_from_the_clock_that_works() {
    let after_refusal = AtomicBool::new(false);
    let upstream = Scripted::start(move |number, error| {
        if after_refusal.swap(false, Ordering::Relaxed) {
            return scripted::answer("403 Forbidden", None, "<html>slow down</html>");
        }
        if error.abs() < 900 && number != 1 {
            return scripted::good(Some(&scripted::date(Duration::ZERO)));
        }
        after_refusal.store(true, Ordering::Relaxed);
        let date = scripted::date(Duration::from_hours(24 * (1 + number as u64)));
        scripted::answer("401 Unauthorized", Some(&date), r#"{"code":13000101,"msg":"expired"}"#)
    })
    .await;
    let files = Files::new();
    let mut exporter = Exporter::start(&files.write("k.yml", upstream.configuration()), &["--log.level=debug"]).await;
    exporter.line(|line| line.contains("account polls failing")).await;
    exporter.line(|line| line.contains("account polls succeeding again")).await;
    exporter.line_of_each(&["production"], "poll succeeded").await;
}

/// The host's clock is two hours behind, and good answers show another time than refusals and the API itself.
#[tokio::test]
async fn a_clock_that_is_accepted_again_after_a_refusal_is_kept_whatever_answers_show() {
    let (two_hours, wrong) = (Duration::from_hours(2), Duration::from_hours(26));
    let upstream = Scripted::start(move |_, error| {
        if (error - 7200).abs() < 900 {
            return scripted::good(Some(&scripted::date(wrong)));
        }
        let date = scripted::date(two_hours);
        scripted::answer("401 Unauthorized", Some(&date), r#"{"code":13000101,"msg":"expired"}"#)
    })
    .await;
    let files = Files::new();
    let mut exporter = Exporter::start(&files.write("k.yml", upstream.configuration()), &["--log.level=debug"]).await;
    for _ in 0..8 {
        exporter.line_of_each(&["production"], "poll succeeded").await;
    }
    let refused = upstream.x_date_errors.lock().unwrap().iter().filter(|error| error.abs() < 900).count();
    assert_eq!(refused, 2, "the first request, and the one after the correction was dropped");
}

#[tokio::test]
async fn a_date_header_of_a_proxy_changes_no_x_date() {
    let upstream = Scripted::start(|number, _| {
        if number % 2 == 0 {
            scripted::good(Some(&scripted::date(Duration::ZERO)))
        } else {
            scripted::answer("502 Bad Gateway", Some("Mon, 02 Mar 2026 03:04:05 GMT"), "<html>upstream</html>")
        }
    })
    .await;
    let files = Files::new();
    let mut exporter = Exporter::start(&files.write("k.yml", upstream.configuration()), &["--log.level=debug"]).await;
    for _ in 0..5 {
        exporter.line_of_each(&["production"], "poll succeeded").await;
    }
    assert!(upstream.dated_truly());
    let log = exporter.log();
    assert!(!log.contains("clocks of host and API") && !log.contains("reason=auth"), "{log}");
}

#[tokio::test]
async fn a_secret_that_changed_since_a_refusal_makes_a_different_request() {
    let (files, upstream) = (Files::new(), Upstream::start(2).await);
    let token = files.write("token", "simulated-token-00001\n");
    let mut account = (*fake::account("finance", fake::MINUTE).api).clone();
    account.endpoint = koodrive::Endpoint::parse(&upstream.url).unwrap();
    account.user_id = koodrive::UserId::parse(&upstream.user_id(1)).unwrap();
    account.credential = Credential::Token {
        token: Secret { key: "auth.token_file", source: SecretSource::File { path: token.clone(), is_absolute: true } },
        prefix: "Bearer ".to_owned(),
    };
    let client = fake::client(account);
    let ask = async || client.ask(Instant::now() + Duration::from_secs(10), None).await;

    assert!(ask().await.result.is_ok());
    upstream.simulator.set_token(&upstream.user_id(1), "renewed".to_owned());
    let refused = ask().await;
    assert_eq!((refused.head().map(|head| head.status), refused.credential), (Some(401), CredentialRead::Known));
    assert_eq!(client.remedy(&[], &refused).await, None);
    // Another line end is no other secret.
    std::fs::write(&token, "simulated-token-00001").unwrap();
    assert_eq!(client.remedy(&[], &refused).await, None);
    std::fs::write(&token, "renewed").unwrap();
    assert_eq!(client.remedy(&[], &refused).await, Some(Remedy::OtherSecret));
    let again = ask().await;
    assert_eq!((again.head().map(|head| head.status), again.credential), (Some(200), CredentialRead::Rotated));
    assert_eq!(ask().await.credential, CredentialRead::Known);
    std::fs::remove_file(&token).unwrap();
    let unread = ask().await;
    assert_eq!((unread.stage, unread.credential), (Stage::Unsent, CredentialRead::Failed));
}

#[tokio::test]
async fn shards_poll_each_account_exactly_once_and_show_which_part_they_are() {
    let (files, upstream) = (Files::new(), Upstream::start(40).await);
    let mut polled = Vec::new();
    for index in 0..3 {
        let yaml = format!("shard: {{ index: {index}, count: 3 }}\n{}", upstream.configuration("1m"));
        let exporter = Exporter::start(&files.write("k.yml", yaml), &[]).await;
        let page = exporter.get("/metrics").await;
        let shard = format!("koodrive_exporter_shard_info{{count=\"3\",index=\"{index}\"}}");
        assert_eq!(page.value(&shard), Some(1.0));
        let accounts = page.body.lines().filter_map(|line| line.strip_prefix("koodrive_account_info{account=\""));
        polled.extend(accounts.map(|line| line.split('"').next().unwrap().to_owned()));
    }
    polled.sort();
    let mut all: Vec<String> = upstream.roster.accounts().map(|account| account.alias).collect();
    all.sort();
    assert_eq!(polled, all);
}
