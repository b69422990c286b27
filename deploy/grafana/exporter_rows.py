"""The rows on polls and on the exporter itself."""

from panels import BOTH, EXPORTERS, GOOD_IS_ONE, NEUTRAL, dashed, default_threshold, defaults, graph, panel, stat, target


def polls():
    skew = default_threshold("clock_skew_seconds")
    yield graph(
        "Failures by reason",
        "Failed polls per minute, by reason. docs/metrics.md says what to look at for each.",
        [target(f"sum by (reason) (rate(koodrive_poll_failures_total{{{BOTH}}}[$__rate_interval])) * 60 > 0", "{{reason}}")],
        "none",
        size=(8, 8),
        stacked=True,
        min=0,
    )
    histogram = f"sum by (le) (rate(koodrive_exporter_poll_duration_seconds_bucket{{{EXPORTERS}}}[$__rate_interval]))"
    yield graph(
        "Poll duration",
        "How long polls take, retries included: half, nine of ten, and all but one of a hundred are quicker. The line is where PollSlow begins.",
        [target(f"histogram_quantile({quantile}, {histogram})", f"p{round(100 * quantile)}") for quantile in (0.5, 0.9, 0.99)],
        "s",
        steps=[(None, "green"), (default_threshold("poll_slow_seconds"), "red")],
        size=(8, 8),
        min=0,
    )
    yield graph(
        "API requests by code",
        "HTTP requests to the API per minute, by the class of the answer's status; none is without an answer.",
        [target(f"sum by (code) (rate(koodrive_exporter_api_requests_total{{{EXPORTERS}}}[$__rate_interval])) * 60 > 0", "{{code}}")],
        "none",
        size=(8, 8),
        stacked=True,
        min=0,
    )
    yield graph(
        "Clock skew",
        "The exporter's clock minus the API's: the most and the least of all accounts. The exporter allows for it; beyond a minute the host's clock needs care.",
        [target(f"{which} by (instance) (koodrive_api_clock_skew_seconds{{{BOTH}}})", f"{which} at {{{{instance}}}}") for which in ("max", "min")],
        "s",
        steps=[(None, "red"), (-skew, "green"), (skew, "red")],
    )
    yield graph(
        "Duration of the latest poll",
        "By account, retries included; the slowest first.",
        [target(f"max by (account) (koodrive_poll_last_duration_seconds{{{BOTH}}})", "{{account}}")],
        "s",
        slowest_first=True,
        min=0,
    )


def exporter():
    # By one selector: `or` would drop the second metric of an exporter, as names are no labels there.
    reload = f'{{__name__=~"koodrive_exporter_config_last_reload_successful|koodrive_exporter_web_config_last_reload_successful",{EXPORTERS}}}'
    state = [{"type": "value", "options": {"0": {"text": "failed", "index": 0}, "1": {"text": "good", "index": 1}}}]
    yield stat("Last reload", "Whether every exporter's latest reload of its configuration and web configuration was good.", f"min({reload})", "none", GOOD_IS_ONE, mappings=state)
    yield stat(
        "Certificate expires in",
        "The time until the first certificate of the listeners expires, where they have TLS.",
        f"min(koodrive_exporter_tls_certificate_expiry_timestamp_seconds{{{EXPORTERS}}}) - time()",
        "s",
        [(None, "red"), (2 * 86400, "orange"), (14 * 86400, "green")],
    )
    yield stat("Secrets not read", "How often a file of a secret could not be read in the last day.", f"sum(increase(koodrive_credential_read_failures_total{{{EXPORTERS}}}[1d]))", "none", [(None, "green"), (1, "red")], decimals=0)
    yield panel(
        "table",
        "Versions",
        "The version of each exporter.",
        [target(f"koodrive_exporter_build_info{{{EXPORTERS}}}", instant=True, format="table")],
        (12, 4),
        defaults("none", NEUTRAL),
        {"showHeader": True, "cellHeight": "sm", "sortBy": [{"displayName": "instance", "desc": False}]},
        transformations=[
            {
                "id": "organize",
                "options": {"excludeByName": {"Time": True, "Value": True, "__name__": True, "rustc": True, "target": True}, "indexByName": {"instance": 0, "version": 1, "revision": 2, "job": 3}, "renameByName": {}},
            }
        ],
    )
    yield graph("Memory", "Resident memory of each exporter.", [target(f"process_resident_memory_bytes{{{EXPORTERS}}}", "{{instance}}")], "bytes", size=(8, 7), min=0)
    yield graph("CPU", "Processor time of each exporter, in cores.", [target(f"rate(process_cpu_seconds_total{{{EXPORTERS}}}[$__rate_interval])", "{{instance}}")], "none", size=(8, 7), min=0)
    yield graph(
        "File descriptors",
        "Open ones of each exporter, and the limit.",
        [target(f"process_open_fds{{{EXPORTERS}}}", "{{instance}}"), target(f"process_max_fds{{{EXPORTERS}}}", "limit of {{instance}}")],
        "none",
        size=(8, 7),
        overrides=[dashed("limit of .*", "red")],
        min=0,
    )
    yield graph(
        "Requests to the exporter",
        "Per minute, by page and status.",
        [target(f"sum by (handler, code) (rate(koodrive_exporter_http_requests_total{{{EXPORTERS}}}[$__rate_interval])) * 60 > 0", "{{handler}} {{code}}")],
        "none",
        size=(12, 7),
        min=0,
    )
    yield graph(
        "Log messages",
        "Per minute, by level.",
        [target(f"sum by (level) (rate(koodrive_exporter_log_messages_total{{{EXPORTERS}}}[$__rate_interval])) * 60", "{{level}}")],
        "none",
        size=(12, 7),
        stacked=True,
        min=0,
    )
