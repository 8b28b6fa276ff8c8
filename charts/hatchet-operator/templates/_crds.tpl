{{/*
The CRDs, with the given labels. The chart of the CRDs alone has this file as well, by a link.
Deleting a CRD deletes every run of the cluster, so uninstalling leaves them.
*/}}
{{- define "hatchet-operator.crds" -}}
{{- range $path, $_ := .root.Files.Glob "files/crds/*.yaml" }}
{{- $crd := $.root.Files.Get $path | fromYaml }}
{{- $_ := set $crd.metadata "annotations" (dict "helm.sh/resource-policy" "keep") }}
{{- $_ := set $crd.metadata "labels" $.labels }}
{{- if and $.root.Values.runs.light (eq $crd.spec.names.plural "workflowruns") }}
{{- $_ := set $crd.spec "versions" (append $crd.spec.versions ($.root.Files.Get "files/recorded-version.yaml" | fromYaml)) }}
{{- end }}
---
{{ toYaml $crd }}
{{- end }}
{{- end }}
