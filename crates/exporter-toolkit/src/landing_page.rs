//! The page at `/`.

use crate::Paths;

/// A page for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Html {
    /// The document.
    pub document: String,
    /// The `Content-Security-Policy` header.
    pub content_security_policy: String,
}

impl Html {
    /// Links to the metrics and the health paths.
    #[must_use]
    pub fn links(paths: &Paths) -> Self {
        let link = |path: &str| {
            let href = format!("{}{path}", paths.links).replace('&', "&amp;").replace('"', "&quot;");
            format!("<li><a href=\"{href}\">{}</a></li>", path.replace('&', "&amp;"))
        };
        let links: String = [paths.telemetry.as_str(), "/-/healthy", "/-/ready"].map(link).concat();
        Self {
            document: format!(
                "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Exporter</title></head>\
                 <body><h1>Exporter</h1><ul>{links}</ul></body></html>\n"
            ),
            content_security_policy: "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
                .to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_escaped() {
        let paths = Paths { telemetry: "/a\"&b".to_owned(), prefix: String::new(), links: "/p".to_owned() };
        let document = Html::links(&paths).document;
        assert!(document.contains("<a href=\"/p/a&quot;&amp;b\">"), "{document}");
    }
}
