package kubernetes

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/llama-orch/engine-provisioner/internal/advertise"
	"github.com/llama-orch/engine-provisioner/render/internal/workload"
)

// user is whom all run as: one without rights, whose number no image has for somebody else.
const user = 10001

// template is the pod: an init container copies the command into a folder that the engine's image runs it from, as process 1.
func (p pool) template(config, hash string) corev1.PodTemplateSpec {
	volumes, mounts := p.volumes(config)
	none := &corev1.SecurityContext{
		ReadOnlyRootFilesystem: new(true), AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
	spec := corev1.PodSpec{
		TerminationGracePeriodSeconds: new(int64(p.Stop.Seconds())),
		AutomountServiceAccountToken:  new(false),
		EnableServiceLinks:            new(false), // no VLLM_PORT=tcp://… of a Service that is named vllm
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: new(true), RunAsUser: new(int64(user)), RunAsGroup: new(int64(user)), FSGroup: new(int64(user)),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		InitContainers: []corev1.Container{{
			Name: "engine-provisioner", Image: p.o.Image, Args: []string{"install", "/ep"},
			VolumeMounts: []corev1.VolumeMount{{Name: "ep", MountPath: "/ep"}}, SecurityContext: none,
		}},
		Containers: []corev1.Container{{
			Name: "engine", Image: p.Image, Command: []string{workload.Command},
			Args: []string{
				"--config", workload.ConfigDir + "/pools.yaml", "--http-addr", fmt.Sprintf("0.0.0.0:%d", workload.HTTPPort),
				"--termination-log", "/dev/termination-log",
			},
			WorkingDir: workload.StateRoot,
			Env:        p.env(),
			Ports: []corev1.ContainerPort{
				{Name: "http", ContainerPort: int32(p.Pool.Port)}, {Name: "metrics", ContainerPort: workload.HTTPPort}, //nolint:gosec // a port
			},
			Resources:    p.resources(),
			VolumeMounts: mounts,
			// It may take as long as the engine may; readiness is the proof of a token. Never liveness by readiness: what has crashed
			// is restarted in its place, with the page cache warm.
			StartupProbe:             probe("/healthz", 1, 60),
			ReadinessProbe:           probe("/readyz", 2, 1),
			LivenessProbe:            probe("/healthz", 10, 3),
			TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
			SecurityContext:          none,
		}},
		Volumes: volumes,
	}
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: p.labels(), Annotations: map[string]string{
			"prometheus.io/scrape": "true", "prometheus.io/port": strconv.Itoa(workload.HTTPPort), "prometheus.io/path": "/metrics",
			"engine-provisioner/config": hash,
		}},
		Spec: spec,
	}
}

func probe(path string, period, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("metrics")}},
		PeriodSeconds: period, TimeoutSeconds: 5, FailureThreshold: failures,
	}
}

func (p pool) env() []corev1.EnvVar {
	env := []corev1.EnvVar{
		{Name: "HOME", Value: "/tmp"},
		{Name: advertise.PodIP, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}},
	}
	if p.Model.Cached {
		env = append(env, corev1.EnvVar{Name: "XDG_CACHE_HOME", Value: workload.CacheDir}, corev1.EnvVar{Name: "HF_HOME", Value: workload.CacheDir + "/huggingface"})
	}
	token := false
	for _, s := range p.Variables() {
		token = token || s.Env == "HF_TOKEN"
		env = append(env, p.variable(s.Env, false))
	}
	if p.Model.Cached && !token {
		env = append(env, p.variable("HF_TOKEN", true))
	}
	return env
}

// variable has the value of a key of the Secret.
func (p pool) variable(name string, optional bool) corev1.EnvVar {
	ref := &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: p.secret()}, Key: name}
	if optional {
		ref.Optional = new(true)
	}
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{SecretKeyRef: ref}}
}

func (p pool) resources() corev1.ResourceRequirements {
	r := corev1.ResourceRequirements{}
	if memory := cmp.Or(p.o.Memory, p.Memory); memory > 0 {
		r.Requests = corev1.ResourceList{corev1.ResourceMemory: quantity(memory)}
	}
	if p.GPUs > 0 {
		r.Limits = corev1.ResourceList{corev1.ResourceName(p.o.GPUResource): quantity(0)}
		count := r.Limits[corev1.ResourceName(p.o.GPUResource)]
		count.Set(int64(p.GPUs))
		r.Limits[corev1.ResourceName(p.o.GPUResource)] = count
	}
	return r
}

func (p pool) volumes(config string) (volumes []corev1.Volume, mounts []corev1.VolumeMount) {
	add := func(name, path string, readOnly bool, source corev1.VolumeSource) {
		volumes = append(volumes, corev1.Volume{Name: name, VolumeSource: source})
		mounts = append(mounts, corev1.VolumeMount{Name: name, MountPath: path, ReadOnly: readOnly})
	}
	empty := func() corev1.VolumeSource { return corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}} }
	add("ep", "/ep", true, empty())
	add("tmp", "/tmp", false, empty())
	add("state", workload.StateRoot, false, empty())
	add("config", workload.ConfigDir, true, corev1.VolumeSource{
		ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: config}},
	})
	if files := p.Files(); len(files) > 0 {
		source := &corev1.SecretVolumeSource{SecretName: p.secret(), DefaultMode: new(int32(0o440))}
		for _, s := range files {
			source.Items = append(source.Items, corev1.KeyToPath{Key: s.File, Path: s.File})
		}
		add("secrets", workload.SecretDir, true, corev1.VolumeSource{Secret: source})
	}
	switch {
	case p.Model.Folder == "":
	case p.o.ModelClaim != "":
		add("models", workload.ModelDir, true, corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: p.o.ModelClaim, ReadOnly: true},
		})
	default:
		add("models", workload.ModelDir, true, corev1.VolumeSource{
			HostPath: &corev1.HostPathVolumeSource{Path: p.Model.Folder, Type: new(corev1.HostPathDirectory)},
		})
	}
	if p.Model.Cached { // the volume is of the StatefulSet's template
		mounts = append(mounts, corev1.VolumeMount{Name: "cache", MountPath: workload.CacheDir})
	}
	if p.ShmSize > 0 {
		add("shm", "/dev/shm", false, corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
			Medium: corev1.StorageMediumMemory, SizeLimit: new(quantity(p.ShmSize)),
		}})
	}
	return volumes, mounts
}

// marshal writes an object without what nobody has said: Kubernetes' types have fields that are written empty.
func marshal(object any) (string, error) {
	data, err := json.Marshal(object)
	if err != nil {
		return "", err
	}
	var plain map[string]any
	if err := json.Unmarshal(data, &plain); err != nil {
		return "", err
	}
	delete(plain, "status")
	return workload.YAML(pruned(plain))
}

// pruned is a value without nulls; what is empty on purpose, such as emptyDir, stays.
func pruned(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for key, inner := range v {
			if inner = pruned(inner); inner == nil || (key == "resources" || key == "status") && isEmpty(inner) {
				delete(v, key)
				continue
			}
			v[key] = inner
		}
	case []any:
		for i := range v {
			v[i] = pruned(v[i])
		}
	}
	return value
}

func isEmpty(value any) bool {
	m, ok := value.(map[string]any)
	return ok && len(m) == 0
}
