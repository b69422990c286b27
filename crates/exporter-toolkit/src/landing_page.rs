//! The page at `/` of an exporter that has none of its own.

use crate::Paths;

/// Links to the metrics and the health paths.
pub(crate) fn links(paths: &Paths) -> String {
    let link = |path: &str| {
        let href = format!("{}{path}", paths.links).replace('&', "&amp;").replace('"', "&quot;");
        format!("<li><a href=\"{href}\">{}</a></li>", path.replace('&', "&amp;"))
    };
    let links: String = [paths.telemetry.as_str(), "/-/healthy", "/-/ready"].map(link).concat();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Exporter</title></head>\
         <body><h1>Exporter</h1><ul>{links}</ul></body></html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_escaped() {
        let paths = Paths { telemetry: "/a\"&b".to_owned(), prefix: String::new(), links: "/p".to_owned() };
        let document = links(&paths);
        assert!(document.contains("<a href=\"/p/a&quot;&amp;b\">"), "{document}");
    }
}
