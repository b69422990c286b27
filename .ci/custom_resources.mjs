// Holds the Prometheus operator's resources against its published schemas. Run it beside its node_modules.
//
// Usage: node custom_resources.mjs FILE...
import { readFileSync } from "node:fs";
import yaml from "js-yaml";
import { PodMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PodMonitor";
import { PrometheusRule } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule";
import { ServiceMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor";

const files = process.argv.slice(2);
for (const path of files) {
  const resource = yaml.load(readFileSync(path, "utf8"));
  const Kind = { PodMonitor, PrometheusRule, ServiceMonitor }[resource.kind];
  new Kind(resource).validate();
}
console.log(`${files.length} custom resources are as the operator's schemas have them`);
