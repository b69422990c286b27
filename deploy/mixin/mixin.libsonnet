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

  local number(value) = if std.isString(value) then value else '%.15g' % value,

  local prefix = 'account:koodrive_threshold:',
  local withThreshold(rule) =
    local name = std.strReplace(std.get(rule, 'record', ''), prefix, '');
    if std.objectHas(config.thresholds, name) then
      rule { expr: std.split(rule.expr, ' or ')[0] + ' or account:koodrive_known:info * ' + number(config.thresholds[name]) }
    else rule,

  local ruleGroups = std.parseYaml(replaced(importstr '../prometheus/koodrive.rules.yml')).groups,
  local known = std.set([
    std.strReplace(rule.record, prefix, '')
    for group in ruleGroups
    for rule in group.rules
    if std.startsWith(std.get(rule, 'record', ''), prefix)
  ]),
  local given = std.set(std.objectFields(config.thresholds) + [override.threshold for override in config.overrides]),
  local unknown = std.setDiff(given, known),

  prometheusRules+:: {
    assert unknown == [] : 'there is no threshold %s; there are %s' % [std.join(', ', unknown), std.join(', ', known)],
    groups+: [group { rules: std.map(withThreshold, group.rules) } for group in ruleGroups]
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
