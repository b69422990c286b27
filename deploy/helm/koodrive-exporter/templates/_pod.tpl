{{- define "koodrive-exporter.args" -}}
- --config.file=/etc/koodrive-exporter/koodrive-exporter.yml
- --config.auto-reload
- --web.listen-address=:{{ int .Values.service.targetPort }}
{{- if .Values.webConfig }}
- --web.config.file=/etc/koodrive-exporter-web/web.yml
{{- end }}
{{- range .Values.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end }}

{{/*
A probe with the prefix and the scheme of the listener. The kubelet has neither a client certificate nor a password:
where the health paths ask for one, the exporter's own command takes that as a sign of life. Its argument is a dict of
root and probe.
*/}}
{{- define "koodrive-exporter.probe" -}}
{{- $probe := deepCopy .probe }}
{{- if $probe.httpGet }}
{{- $values := .root.Values }}
{{- $clientAuth := ($values.webConfig.tls_server_config | default dict).client_auth_type | default "" }}
{{- $needsCertificate := has $clientAuth (list "RequireAnyClientCert" "RequireAndVerifyClientCert") }}
{{- $needsPassword := and $values.webConfig.basic_auth_users (eq "false" (($values.config.web | default dict).health_without_password | toString)) }}
{{- if or $needsCertificate $needsPassword }}
{{- $args := include "koodrive-exporter.args" .root | fromYamlArray }}
{{- $_ := unset $probe "httpGet" }}
{{- $_ := set $probe "exec" (dict "command" (concat (list "/usr/bin/koodrive-exporter" "healthcheck") $args)) }}
{{- else }}
{{- $_ := set $probe.httpGet "path" (printf "%s%s" (include "koodrive-exporter.prefix" .root) $probe.httpGet.path) }}
{{- if not $probe.httpGet.scheme }}
{{- $_ := set $probe.httpGet "scheme" (include "koodrive-exporter.scheme" .root | upper) }}
{{- end }}
{{- end }}
{{- end }}
{{- toYaml $probe }}
{{- end }}

{{- define "koodrive-exporter.podTemplate" -}}
{{- include "koodrive-exporter.validate" . -}}
metadata:
  labels:
    {{- include "koodrive-exporter.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # What a running exporter does not take over from a changed file.
    {{- $poll := pick (.Values.config.poll | default dict) "concurrency" }}
    checksum/restart: {{ list (pick .Values.config "web" "log") $poll .Values.webConfig | toJson | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- with concat .Values.global.imagePullSecrets .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  serviceAccountName: {{ include "koodrive-exporter.serviceAccountName" . | quote }}
  automountServiceAccountToken: {{ .Values.automountServiceAccountToken }}
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ int .Values.terminationGracePeriodSeconds }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  {{- with .Values.podSecurityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: koodrive-exporter
      image: {{ include "koodrive-exporter.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        {{- include "koodrive-exporter.args" . | nindent 8 }}
      {{- $sharded := gt (int .Values.shards) 1 }}
      {{- if or $sharded .Values.extraEnv }}
      env:
        {{- if $sharded }}
        - name: KOODRIVE_EXPORTER__SHARD__INDEX
          value: hostname
        - name: KOODRIVE_EXPORTER__SHARD__COUNT
          value: {{ int .Values.shards | quote }}
        {{- end }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
      ports:
        - name: http
          containerPort: {{ int .Values.service.targetPort }}
          protocol: TCP
      {{- range $name := list "startupProbe" "livenessProbe" "readinessProbe" }}
      {{- with get $.Values $name }}
      {{ $name }}:
        {{- include "koodrive-exporter.probe" (dict "root" $ "probe" .) | nindent 8 }}
      {{- end }}
      {{- end }}
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.securityContext }}
      securityContext:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - name: config
          mountPath: /etc/koodrive-exporter
          readOnly: true
        {{- if .Values.webConfig }}
        - name: web-config
          mountPath: /etc/koodrive-exporter-web
          readOnly: true
        {{- end }}
        {{- if .Values.existingSecret }}
        - name: secrets
          mountPath: /run/secrets/koodrive-exporter
          readOnly: true
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "koodrive-exporter.fullname" . | quote }}
    {{- if .Values.webConfig }}
    - name: web-config
      secret:
        secretName: {{ include "koodrive-exporter.fullname" . }}-web
        defaultMode: 0440
    {{- end }}
    {{- with .Values.existingSecret }}
    - name: secrets
      secret:
        secretName: {{ . | quote }}
        defaultMode: 0440
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
