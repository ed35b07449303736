{{- define "freshet.labels" -}}
app.kubernetes.io/name: freshet
app.kubernetes.io/instance: {{ .release }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "freshet.image" -}}
image: {{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end }}

{{- define "freshet.settings" -}}
FRESHET_BOOTSTRAP: {{ .Values.bootstrap | quote }}
{{- range $name, $value := .Values.settings }}
FRESHET_{{ upper $name }}: {{ ternary $value (toJson $value) (kindIs "string" $value) | quote }}
{{- end }}
{{- end }}

{{/* What pods have in common; .root, .part: its values, .component */}}
{{- define "freshet.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false  # they would set FRESHET_PORT, which is a setting
terminationGracePeriodSeconds: 60
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- if .root.Values.topics.create }}
initContainers:
  - name: topics
    args: [topics, create]
    {{- include "freshet.container" .root | nindent 4 }}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
{{- end }}
{{- with .part.pod }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What containers have in common */}}
{{- define "freshet.container" -}}
{{ include "freshet.image" . }}
envFrom:
  - configMapRef: {name: {{ .Release.Name }}-settings}
  {{- with .Values.secretName }}
  - secretRef: {name: {{ . }}}
  {{- end }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* Probes of a port: what starts may take five minutes until it answers at all, and as long as it needs until it is ready */}}
{{- define "freshet.probes" -}}
startupProbe:
  httpGet: {path: /livez, port: {{ . }}}
  periodSeconds: 2
  failureThreshold: 150
livenessProbe:
  httpGet: {path: /livez, port: {{ . }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: {{ . }}}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}

{{- define "freshet.volumes" -}}
volumes:
  - {name: tmp, emptyDir: {}}
  {{- if not .persistence.enabled }}
  - {name: state, emptyDir: {}}
  {{- end }}
{{- end }}

{{- define "freshet.claims" -}}
{{- if .persistence.enabled }}
volumeClaimTemplates:
  - metadata: {name: state}
    spec:
      accessModes: [ReadWriteOnce]
      {{- with .persistence.storageClass }}
      storageClassName: {{ . }}
      {{- end }}
      resources: {requests: {storage: {{ .persistence.size }}}}
{{- end }}
{{- end }}
