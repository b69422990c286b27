//! An upstream that answers each request with the bytes that a function makes of its head.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

const GOOD_BODY: &str = r#"{"code":0,"msg":"success","data":{"totalCapacity":3,"totalUsed":2,"totalAllocation":1}}"#;

/// A server that closes each connection after one answer.
pub struct Scripted {
    pub url: String,
    /// By how much each request's `X-Date` was off the true time, in seconds.
    pub x_date_errors: Arc<Mutex<Vec<i64>>>,
}

impl Scripted {
    /// Answers by the request's number, from 0, and its `X-Date`'s error.
    pub async fn start(answer: impl Fn(usize, i64) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let x_date_errors = Arc::new(Mutex::new(Vec::new()));
        let errors = Arc::clone(&x_date_errors);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let error = x_date_error(&String::from_utf8(head).unwrap());
                let number = {
                    let mut errors = errors.lock().unwrap();
                    errors.push(error);
                    errors.len() - 1
                };
                stream.write_all(answer(number, error).as_bytes()).await.unwrap();
            }
        });
        Self { url, x_date_errors }
    }

    /// A configuration with one account.
    pub fn configuration(&self) -> String {
        format!(
            "endpoint: {}\npoll: {{ interval: 200ms }}\nhttp: {{ proxy_url: none }}\n\
             accounts: {{ production: {{ user_id: \"1\", auth: {{ type: token, token: hunter2 }} }} }}",
            self.url
        )
    }

    /// Whether each request so far was dated by the true time.
    pub fn dated_truly(&self) -> bool {
        self.x_date_errors.lock().unwrap().iter().all(|error| error.abs() < 60)
    }
}

/// An answer with this status line, `Date` header if any, and body.
pub fn answer(status: &str, date: Option<&str>, body: &str) -> String {
    let date = date.map_or(String::new(), |date| format!("Date: {date}\r\n"));
    format!("HTTP/1.1 {status}\r\n{date}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

pub fn good(date: Option<&str>) -> String {
    answer("200 OK", date, GOOD_BODY)
}

/// A `Date` header's value for the time `ahead` of now.
pub fn date(ahead: Duration) -> String {
    httpdate::fmt_http_date(SystemTime::now() + ahead)
}

fn x_date_error(head: &str) -> i64 {
    let value =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("x-date: ").map(str::to_uppercase)).unwrap();
    let date = TimeZone::UTC.to_timestamp(DateTime::strptime("%Y%m%dT%H%M%SZ", &value).unwrap()).unwrap();
    date.as_second() - Timestamp::now().as_second()
}
