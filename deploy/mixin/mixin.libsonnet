// The rules of deploy/prometheus and the dashboard of deploy/grafana as a monitoring mixin. It reads those files, so the
// folder deploy must be vendored as a whole. Set the parameters in _config:
//
//   (import 'koodrive-exporter/deploy/mixin/mixin.libsonnet') + { _config+:: { jobRegex: 'storage/koodrive' } }
{
  _config:: {
    // The jobs of the exporter's targets.
    jobRegex: 'koodrive|koodrive-exporter',
    // What the links of alerts and dashboard begin with.
    runbookUrl: 'https://runbooks.example/koodrive',
    grafanaUrl: 'https://grafana.example',
    // Other defaults of thresholds, by the names in deploy/prometheus/README.md: { space_usage_high_ratio: 0.9 }.
    thresholds: {},
    // Thresholds of single accounts: [{ job: 'koodrive', account: 'archive', threshold: 'space_full_ratio', value: '+Inf' }].
    overrides: [],
  },

  local config = self._config,
  local replaced(text) =
    local withJob = std.strReplace(text, 'job=~"koodrive|koodrive-exporter"', 'job=~"%s"' % config.jobRegex);
    local withRunbooks = std.strReplace(withJob, 'https://runbooks.example/koodrive', config.runbookUrl);
    std.strReplace(withRunbooks, 'https://grafana.example', config.grafanaUrl),

  local number(value) = if std.isString(value) then value else '%g' % value,

  local prefix = 'account:koodrive_threshold:',
  local withThreshold(rule) =
    local name = std.strReplace(std.get(rule, 'record', ''), prefix, '');
    if std.objectHas(config.thresholds, name) then
      rule { expr: std.split(rule.expr, ' or ')[0] + ' or account:koodrive_known:info * ' + number(config.thresholds[name]) }
    else rule,

  prometheusRules+:: {
    local groups = std.parseYaml(replaced(importstr '../prometheus/koodrive.rules.yml')).groups,
    groups+: [group { rules: std.map(withThreshold, group.rules) } for group in groups]
             + if config.overrides == [] then [] else [{
               name: 'koodrive-overrides',
               rules: [
                 {
                   record: 'koodrive:override:' + override.threshold,
                   expr: 'vector(%s)' % number(override.value),
                   labels: { job: override.job, account: override.account },
                 }
                 for override in config.overrides
               ],
             }],
  },

  prometheusAlerts+:: {
    groups+: std.parseYaml(replaced(importstr '../prometheus/koodrive.alerts.yml')).groups,
  },

  grafanaDashboards+:: {
    'koodrive.json': std.parseJson(replaced(importstr '../grafana/dashboards/koodrive.json')),
  },
}
