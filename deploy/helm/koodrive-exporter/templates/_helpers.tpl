{{- define "koodrive-exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/*
At most 52 characters: a shard's number is the end of the pod's host name, which Kubernetes cuts at 63, and the label
with a StatefulSet's revision is as long as the name and 11 characters.
*/}}
{{- define "koodrive-exporter.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- $name := include "koodrive-exporter.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "koodrive-exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "koodrive-exporter.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "koodrive-exporter.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "koodrive-exporter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "koodrive-exporter.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "koodrive-exporter.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "koodrive-exporter.image" -}}
{{- $registry := .Values.global.imageRegistry | default .Values.image.registry }}
{{- with $registry }}{{ . }}/{{ end }}{{ .Values.image.repository }}
{{- if .Values.image.digest }}@{{ .Values.image.digest }}
{{- else }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{/* What the paths of requests begin with: empty, or a path without a slash at its end. */}}
{{- define "koodrive-exporter.prefix" -}}
{{- $web := .Values.config.web | default dict }}
{{- $path := "" }}
{{- if $web.route_prefix }}
{{- $path = $web.route_prefix }}
{{- else if $web.external_url }}
{{- $path = get (urlParse $web.external_url) "path" }}
{{- end }}
{{- with trimAll "/" $path }}/{{ . }}{{ end }}
{{- end }}

{{- define "koodrive-exporter.metricsPath" -}}
{{- $web := .Values.config.web | default dict }}
{{- include "koodrive-exporter.prefix" . }}/{{ $web.telemetry_path | default "metrics" | trimPrefix "/" }}
{{- end }}

{{- define "koodrive-exporter.scheme" -}}
{{- if .Values.webConfig.tls_server_config }}https{{ else }}http{{ end }}
{{- end }}

{{/* Refuses values that the schema cannot: each of them would fail later, and less clearly. */}}
{{- define "koodrive-exporter.validate" -}}
{{- if not (or .Values.config.accounts .Values.extraEnv) }}
{{- fail "config.accounts is empty: at least one account is needed" }}
{{- end }}
{{- if and (gt (int .Values.shards) 1) (gt (int .Values.replicaCount) 1) }}
{{- fail "shards and replicaCount are both above 1: shards share the accounts, replicas repeat them" }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled .Values.podMonitor.enabled }}
{{- fail "serviceMonitor.enabled and podMonitor.enabled: both would scrape the same pods twice" }}
{{- end }}
{{- if and .Values.webConfig (.Values.config.web | default dict).config_file }}
{{- fail "webConfig and config.web.config_file are mutually exclusive" }}
{{- end }}
{{- end }}

{{/* The endpoint of a ServiceMonitor or PodMonitor. Its argument is a dict of root and monitor. */}}
{{- define "koodrive-exporter.endpoint" -}}
port: http
path: {{ include "koodrive-exporter.metricsPath" .root }}
scheme: {{ .monitor.scheme | default (include "koodrive-exporter.scheme" .root) }}
interval: {{ .monitor.interval }}
scrapeTimeout: {{ .monitor.scrapeTimeout }}
{{- with .monitor.tlsConfig }}
tlsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .monitor.basicAuth }}
basicAuth:
  {{- toYaml . | nindent 2 }}
{{- end }}
relabelings:
  # The alerts look for this job.
  - action: replace
    targetLabel: job
    replacement: koodrive-exporter
  # What differs between replicas is the pod alone.
  - action: labeldrop
    regex: container|endpoint|service
  {{- with .monitor.relabelings }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .monitor.metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A file of the chart with the user's addresses. It is not a template: braces in it are those of Prometheus or Grafana. */}}
{{- define "koodrive-exporter.file" -}}
{{- $runbooks := trimSuffix "/" .root.Values.runbookUrl }}
{{- $grafana := trimSuffix "/" .root.Values.grafanaUrl }}
{{- .root.Files.Get .path | replace "https://runbooks.example/koodrive" $runbooks | replace "https://grafana.example" $grafana }}
{{- end }}
