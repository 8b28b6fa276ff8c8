{{- define "hatchet-operator.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- /* For objects without a namespace: releases of one name in two namespaces have each their own. */}}
{{- define "hatchet-operator.clusterName" -}}
{{ include "hatchet-operator.name" . }}-{{ .Release.Namespace }}
{{- end }}

{{- define "hatchet-operator.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "hatchet-operator.labels" -}}
{{ include "hatchet-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "hatchet-operator.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "hatchet-operator.name" .) }}
{{- end }}

{{- /* The name that worker pods connect to. */}}
{{- define "hatchet-operator.host" -}}
{{ include "hatchet-operator.name" . }}.{{ .Release.Namespace }}.svc
{{- end }}

{{- /* What else the certificate is for, as a JSON list. */}}
{{- define "hatchet-operator.moreNames" -}}
{{ concat (list (printf "%s.%s" (include "hatchet-operator.name" .) .Release.Namespace) (printf "%s.cluster.local" (include "hatchet-operator.host" .))) .Values.tls.names | toJson }}
{{- end }}

{{- /* Where the certificate is that workers are to trust: name of the Secret; empty: there is none. */}}
{{- define "hatchet-operator.caSecret" -}}
{{- if eq .Values.tls.mode "own" }}hatchet-operator-ca{{ else if eq .Values.tls.mode "certManager" }}{{ include "hatchet-operator.name" . }}-tls{{ end }}
{{- end }}

{{- define "hatchet-operator.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* What the restricted Pod Security Standard asks of a pod, and of each container. */}}
{{- define "hatchet-operator.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "hatchet-operator.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
