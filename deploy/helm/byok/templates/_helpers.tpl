{{- define "byok.fullname" -}}
{{- if contains "byok" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-byok" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "byok.selector" -}}
app.kubernetes.io/name: byok
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "byok.labels" -}}
{{ include "byok.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "byok.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest }}{{ $image.repository }}@{{ $image.digest }}{{ else }}{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- /* What no container of ours may do: run as root, write to its image, gain a right. The user is the Dockerfile's. */ -}}
{{- define "byok.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "byok.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* A setting from a Secret: dict "name" "secret" */ -}}
{{- define "byok.dsn" -}}
- name: {{ .name }}
  valueFrom: {secretKeyRef: {name: {{ required (printf "%s needs a Secret under databases" .name) .secret }}, key: dsn}}
{{- end }}

{{- /* Settings of one component: dict "root" "user" (of kafka.users, or none) "settings", "tokens" where it takes tokens,
"pages" where it knows the others by their APIs alone */ -}}
{{- define "byok.environment" -}}
{{- $kafka := .root.Values.kafka -}}
{{- if and .tokens .root.Values.claims }}
- {name: BYOK_JWT_CLAIMS_FILE, value: /etc/byok/claims/claims.json}
{{- end }}
{{- if .pages }}
- {name: BYOK_REGISTRY_URL, value: "http://{{ include "byok.fullname" .root }}-registry:8001"}
- {name: BYOK_LEDGER_URL, value: "http://{{ include "byok.fullname" .root }}-ledger:8002"}
{{- else }}
- {name: BYOK_KAFKA_BOOTSTRAP, value: {{ required "kafka.bootstrap says where Kafka is" $kafka.bootstrap | quote }}}
- {name: BYOK_KAFKA_SECURITY_PROTOCOL, value: {{ $kafka.securityProtocol }}}
{{- with .user }}
{{- $user := index $kafka.users . }}
{{- if $user.secret }}
- {name: BYOK_KAFKA_SASL_MECHANISM, value: {{ $kafka.saslMechanism }}}
- {name: BYOK_KAFKA_SASL_USERNAME, value: {{ $user.username | quote }}}
- {name: BYOK_KAFKA_SASL_PASSWORD_FILE, value: /etc/byok/kafka-password/password}
{{- end }}
{{- end }}
{{- if $kafka.caSecret }}
- {name: BYOK_KAFKA_SSL_CA_FILE, value: /etc/byok/kafka/ca.crt}
{{- end }}
{{- end }}
{{- range $name, $value := merge (deepCopy (.settings | default dict)) .root.Values.settings }}
- {name: {{ $name }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- end }}

{{- define "byok.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if and .tokens .root.Values.claims }}
- {name: claims, mountPath: /etc/byok/claims, readOnly: true}
{{- end }}
{{- if not .pages }}
{{- if .root.Values.kafka.caSecret }}
- {name: kafka-ca, mountPath: /etc/byok/kafka, readOnly: true}
{{- end }}
{{- if .root.Values.databases.caSecret }}
- {name: postgres-ca, mountPath: /etc/byok/postgres, readOnly: true}
{{- end }}
{{- with .user }}
{{- if (index $.root.Values.kafka.users .).secret }}
- {name: kafka-password, mountPath: /etc/byok/kafka-password, readOnly: true}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "byok.volumes" -}}
- {name: tmp, emptyDir: {medium: Memory, sizeLimit: 64Mi}}
{{- if and .tokens .root.Values.claims }}
- {name: claims, configMap: {name: {{ include "byok.fullname" .root }}-claims}}
{{- end }}
{{- if not .pages }}
{{- with .root.Values.kafka.caSecret }}
- {name: kafka-ca, secret: {secretName: {{ . }}}}
{{- end }}
{{- with .root.Values.databases.caSecret }}
- {name: postgres-ca, secret: {secretName: {{ . }}}}
{{- end }}
{{- with .user }}
{{- with (index $.root.Values.kafka.users .).secret }}
- {name: kafka-password, secret: {secretName: {{ . }}, defaultMode: 0440}}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- /* It lives, and it can do its work: a worker that waits is not ready, and restarting it gains nothing. */ -}}
{{- define "byok.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- end }}

{{- define "byok.scheduling" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "byok.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "byok.selector" . | nindent 8 }}
{{- end }}
