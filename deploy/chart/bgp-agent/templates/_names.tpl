{{- define "bgp-agent.labels" -}}
app.kubernetes.io/name: bgp-agent
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "bgp-agent.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "bgp-agent.speakerImage" -}}
{{ .Values.speaker.image.repository | default .Values.image.repository }}:{{ .Values.speaker.image.tag | default .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* What is the same in both pods. Host network: the sessions have the node's address, the routes are the node's. The
node's resolver is used: the cluster's own is reached by the routes that this pod makes. */ -}}
{{- define "bgp-agent.pod" -}}
hostNetwork: true
dnsPolicy: Default
enableServiceLinks: false
priorityClassName: {{ .Values.priorityClassName | quote }}
nodeSelector: {{- toYaml .Values.nodeSelector | nindent 2 }}
tolerations: {{- toYaml .Values.tolerations | nindent 2 }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsUser: 0
  runAsGroup: 0
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- /* root without any capability but the one that is given */ -}}
{{- define "bgp-agent.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL], add: [{{ . }}]}
{{- end }}

{{- define "bgp-agent.config" -}}
{{- $own := dict "state_dir" "/run/bgp-agent" "speaker" (dict "spawn" false "stop_timeout" (printf "%ds" (int .Values.speaker.stopTimeout))) -}}
{{- if .Values.metrics.port -}}
{{- $_ := set $own "http" (dict "metrics_listen" (printf "0.0.0.0:%d" (int .Values.metrics.port))) -}}
{{- end -}}
{{ toYaml (mergeOverwrite (deepCopy .Values.config) $own) }}
{{- end }}
