{{- /* What objects are named after; cut, since suffixes follow. */}}
{{- define "hatchet-operator.name" -}}
{{- $chart := .Values.nameOverride | default .Chart.Name }}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name $chart) (contains $chart .Release.Name) }}
{{- .Values.fullnameOverride | default $name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- /* For objects without a namespace: releases of one name in two namespaces have each their own. */}}
{{- define "hatchet-operator.clusterName" -}}
{{ include "hatchet-operator.name" . }}-{{ .Release.Namespace }}
{{- end }}

{{- /* Fail if another release that is still there has installed a CRD: Helm's own words do not say what to do. Of a
release that is gone, --take-ownership takes it over. */}}
{{- define "hatchet-operator.refuseTakenCrd" -}}
{{- $owner := (lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" .name).metadata | default dict }}
{{- $release := get ($owner.annotations | default dict) "meta.helm.sh/release-name" }}
{{- $namespace := get ($owner.annotations | default dict) "meta.helm.sh/release-namespace" }}
{{- if and $release (or (ne $release .root.Release.Name) (ne $namespace .root.Release.Namespace)) }}
{{- range (lookup "apps/v1" "Deployment" $namespace "").items }}
{{- if and (eq (get (.metadata.annotations | default dict) "meta.helm.sh/release-name") $release) (eq (get (.metadata.labels | default dict) "app.kubernetes.io/name") $.root.Chart.Name) }}
{{- fail (printf "the CRDs of this cluster belong to the release %q in the namespace %q, which runs, and every release uses the same ones; install this one with --set crds.install=false, and upgrade that one first when there is a newer chart" $release $namespace) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Marks the roles by which `refuseServed` finds what a release serves. */}}
{{- define "hatchet-operator.serves" -}}
hatchet-operator.dev/serves: {{ ternary "cluster" "namespace" (empty .Values.namespaces) }}
{{- end }}

{{- /* Fail if another release that runs serves a namespace of ours: two operators would undo each other's work. A cluster
is asked only by who may see it anyhow; without one, as for `helm template`, nothing is found. */}}
{{- define "hatchet-operator.refuseServed" -}}
{{- $roles := list }}
{{- range .Values.namespaces | default (list "") }}
{{- $roles = concat $roles ((lookup "rbac.authorization.k8s.io/v1" "Role" . "").items | default list) }}
{{- end }}
{{- if or (empty .Values.namespaces) .Values.aggregatedRoles.enabled .Values.workers.serviceAccountTokens }}
{{- $roles = concat $roles ((lookup "rbac.authorization.k8s.io/v1" "ClusterRole" "" "").items | default list) }}
{{- end }}
{{- range $roles }}
{{- $release := get (.metadata.annotations | default dict) "meta.helm.sh/release-name" }}
{{- $namespace := get (.metadata.annotations | default dict) "meta.helm.sh/release-namespace" }}
{{- $ours := and (eq $release $.Release.Name) (eq $namespace $.Release.Namespace) }}
{{- if and (hasKey (.metadata.labels | default dict) "hatchet-operator.dev/serves") $release (not $ours) }}
{{- $what := ternary (printf "the namespace %q" .metadata.namespace) "every namespace" (eq .kind "Role") }}
{{- range (lookup "apps/v1" "Deployment" $namespace "").items }}
{{- if and (eq (get (.metadata.annotations | default dict) "meta.helm.sh/release-name") $release) (gt (int .spec.replicas) 0) }}
{{- fail (printf "%s is served by the release %q in the namespace %q, and two operators would undo each other's work: give each release namespaces of its own (--set namespaces={etl,ml}), or first scale down or uninstall that one" $what $release $namespace) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
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

{{- /* Of the page's server, whose pods nothing of the operator may select. */}}
{{- define "hatchet-operator.dashboardSelector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}-dashboard
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "hatchet-operator.dashboardLabels" -}}
{{ include "hatchet-operator.dashboardSelector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "hatchet-operator.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "hatchet-operator.name" .) }}
{{- end }}

{{- /* The name that worker pods connect to; with shards, those of the first. */}}
{{- define "hatchet-operator.host" -}}
{{ first (fromJsonArray (include "hatchet-operator.services" .)) }}.{{ .Release.Namespace }}.svc
{{- end }}

{{- /* What else the certificate is for, as a JSON list; the operator replaces {shard}. */}}
{{- define "hatchet-operator.moreNames" -}}
{{- $service := printf "%s%s.%s" (include "hatchet-operator.name" .) (ternary "-shard-{shard}" "" (gt (int .Values.shards) 1)) .Release.Namespace }}
{{- concat (list $service (printf "%s.svc.cluster.local" $service)) .Values.tls.names | toJson }}
{{- end }}

{{- /* The Services that lead to a leader, as a JSON list: one, or one for each shard. */}}
{{- define "hatchet-operator.services" -}}
{{- $name := include "hatchet-operator.name" . }}
{{- $services := list $name }}
{{- if gt (int .Values.shards) 1 }}
{{- $services = list }}
{{- range until (int .Values.shards) }}
{{- $services = append $services (printf "%s-shard-%d" $name .) }}
{{- end }}
{{- end }}
{{- $services | toJson }}
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
