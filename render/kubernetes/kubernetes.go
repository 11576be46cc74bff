// Package kubernetes renders the pools of a pools file as objects of Kubernetes: one Deployment or StatefulSet per pool, in whose
// pods a manager looks after one replica, in the image of its engine.
//
// The command calls it, and whoever makes manifests in Go. It talks to no cluster, looks at no file but the header of a model that
// is here, and gives equal texts for equal files. It alone links Kubernetes' own types.
package kubernetes

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/render"
	"github.com/llama-orch/engine-provisioner/render/internal/workload"
	"github.com/llama-orch/engine-provisioner/settings"
)

// Options say what a pools file does not. The zero value is usable where every pool is of mode "container".
type Options struct {
	// Pool is the one to render; "" is all of them.
	Pool string
	// Image holds the engine-provisioner command. Left out, it is "engine-provisioner:latest", as "make release" names it.
	Image string
	// EngineImage holds the engine, instead of the image that its authors publish.
	EngineImage string
	// Namespace is written into each object. Left out, they have none, and kubectl's holds.
	Namespace string
	// GPUResource is what a GPU is called there, such as "amd.com/gpu". Left out, it is "nvidia.com/gpu".
	GPUResource string
	// ModelClaim is the PersistentVolumeClaim with the files of local models. Left out, they are in the same folder of each node.
	ModelClaim string
	// CacheSize is the size of the volume of each replica for what it fetches. Left out, it is 100GiB.
	CacheSize settings.Size
	// Memory is what a replica asks for. Left out, it is the estimate, where the model is here.
	Memory settings.Size
}

// Render returns a file for each pool, in the order of the configuration. What cannot work in a cluster is an error that names the
// pool and the way; what could not be carried over stands in comments.
func Render(config *provisioner.Config, o Options) ([]render.File, error) {
	o.Image = cmp.Or(o.Image, "engine-provisioner:latest")
	o.GPUResource = cmp.Or(o.GPUResource, "nvidia.com/gpu")
	o.CacheSize = cmp.Or(o.CacheSize, 100<<30)
	if err := workload.CheckImage("--image", o.Image); err != nil {
		return nil, err
	}
	all, err := workload.All(config, o.Pool, workload.Options{Image: o.EngineImage, Place: workload.Pod})
	if err != nil {
		return nil, err
	}
	var files []render.File
	var failed []error
	for _, w := range all {
		text, err := pool{w, o}.text()
		if err != nil {
			failed = append(failed, err)
			continue
		}
		files = append(files, render.File{Name: w.Name + ".yaml", Text: text})
	}
	return files, errors.Join(failed...)
}

// Kustomization is a file that names the files, to lay an overlay over.
func Kustomization(files []render.File) render.File {
	var b strings.Builder
	b.WriteString("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n")
	for _, f := range files {
		fmt.Fprintf(&b, "  - %s\n", f.Name)
	}
	return render.File{Name: "kustomization.yaml", Text: b.String()}
}

// pool is one that is rendered.
type pool struct {
	workload.Workload
	o Options
}

func (p pool) text() (string, error) {
	file, err := p.File(workload.StateDir)
	if err != nil {
		return "", err
	}
	config := p.config(file)
	objects := []any{config}
	objects = append(objects, p.services()...)
	template := p.template(config.Name, workload.Hash(file))
	if p.Model.Cached {
		objects = append(objects, p.statefulSet(template))
	} else {
		objects = append(objects, p.deployment(template))
	}
	if p.Replicas > 1 {
		objects = append(objects, p.budget())
	}
	if p.Pool.Expose == settings.ExposeOpen {
		objects = append(objects, p.policy())
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Pool %q, rendered by engine-provisioner. Change the pools file and render it again, or lay a kustomization over this.\n", p.Pool.ID)
	for _, s := range p.Secrets {
		fmt.Fprintf(&b, "# It needs the key %q (%s) in the Secret %q:\n#   kubectl create secret generic %s --from-%s\n",
			cmp.Or(s.Env, s.File), s.Key, p.secret(), p.secret(), how(s))
	}
	b.WriteString(p.Comments())
	for _, object := range objects {
		text, err := marshal(object)
		if err != nil {
			return "", fmt.Errorf("pool %q cannot be rendered: %w", p.Pool.ID, err)
		}
		b.WriteString("---\n" + text)
	}
	return b.String(), nil
}

func how(s workload.Secret) string {
	if s.Env != "" {
		return fmt.Sprintf("literal=%s=…", s.Env)
	}
	return fmt.Sprintf("file=%s=FILE", s.File)
}

func (p pool) secret() string { return p.Name + "-secrets" }

func (p pool) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: p.o.Namespace, Labels: p.labels()}
}

// selector finds the pods; it can never change.
func (p pool) selector() map[string]string {
	return map[string]string{"app.kubernetes.io/name": "engine-provisioner", "app.kubernetes.io/instance": p.Name}
}

func (p pool) labels() map[string]string {
	labels := p.selector()
	labels["app.kubernetes.io/component"] = p.Pool.Engine
	labels["app.kubernetes.io/managed-by"] = "engine-provisioner"
	return labels
}

// config has the hash in its name, so that a changed file is a rolling update, and a rollback finds the one of before.
func (p pool) config(file string) corev1.ConfigMap {
	return corev1.ConfigMap{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: p.meta(p.Name + "-" + workload.Hash(file)),
		Immutable: new(true), Data: map[string]string{"pools.yaml": file},
	}
}

func (p pool) services() []any {
	ports := []corev1.ServicePort{
		{Name: "http", Port: int32(p.Pool.Port), TargetPort: intstr.FromString("http")}, //nolint:gosec // a port
		{Name: "metrics", Port: workload.HTTPPort, TargetPort: intstr.FromString("metrics")},
	}
	service := corev1.Service{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: p.meta(p.Name),
		Spec: corev1.ServiceSpec{Selector: p.selector(), Ports: ports},
	}
	if !p.Model.Cached {
		return []any{service}
	}
	each := service
	each.ObjectMeta = p.meta(p.Name + "-replicas") // their names, for a StatefulSet
	each.Spec.ClusterIP = corev1.ClusterIPNone
	return []any{service, each}
}

func (p pool) deployment(template corev1.PodTemplateSpec) appsv1.Deployment {
	// A node has no GPU to spare for one more, as a rule.
	surge, unavailable := intstr.FromInt32(1), intstr.FromInt32(0)
	if p.GPUs > 0 {
		surge, unavailable = unavailable, surge
	}
	return appsv1.Deployment{
		TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}, ObjectMeta: p.meta(p.Name),
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(p.Replicas)), Selector: &metav1.LabelSelector{MatchLabels: p.selector()}, Template: template, //nolint:gosec // at most 256
			Strategy: appsv1.DeploymentStrategy{
				Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &surge, MaxUnavailable: &unavailable},
			},
			ProgressDeadlineSeconds: new(int32((p.Start + workload.Margin).Seconds())), //nolint:gosec // some hours
		},
	}
}

// statefulSet is for a model that each replica fetches for itself, once.
func (p pool) statefulSet(template corev1.PodTemplateSpec) appsv1.StatefulSet {
	return appsv1.StatefulSet{
		TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "StatefulSet"}, ObjectMeta: p.meta(p.Name),
		Spec: appsv1.StatefulSetSpec{
			Replicas: new(int32(p.Replicas)), Selector: &metav1.LabelSelector{MatchLabels: p.selector()}, Template: template, //nolint:gosec // at most 256
			ServiceName: p.Name + "-replicas", PodManagementPolicy: appsv1.ParallelPodManagement,
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{
				TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"}, ObjectMeta: metav1.ObjectMeta{Name: "cache", Labels: p.selector()},
				Spec: corev1.PersistentVolumeClaimSpec{
					AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
					Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: quantity(p.o.CacheSize)}},
				},
			}},
		},
	}
}

// budget lets a drained node take one replica at a time.
func (p pool) budget() policyv1.PodDisruptionBudget {
	return policyv1.PodDisruptionBudget{
		TypeMeta: metav1.TypeMeta{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"}, ObjectMeta: p.meta(p.Name),
		Spec: policyv1.PodDisruptionBudgetSpec{MaxUnavailable: new(intstr.FromInt32(1)), Selector: &metav1.LabelSelector{MatchLabels: p.selector()}},
	}
}

// policy keeps an engine without a key from other namespaces.
func (p pool) policy() networkingv1.NetworkPolicy {
	http, metrics := intstr.FromString("http"), intstr.FromString("metrics")
	return networkingv1.NetworkPolicy{
		TypeMeta: metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"}, ObjectMeta: p.meta(p.Name),
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: p.selector()}, PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
			Ingress: []networkingv1.NetworkPolicyIngressRule{
				{From: []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{}}}, Ports: []networkingv1.NetworkPolicyPort{{Port: &http}}},
				{Ports: []networkingv1.NetworkPolicyPort{{Port: &metrics}}},
			},
		},
	}
}

func quantity(size settings.Size) resource.Quantity {
	return *resource.NewQuantity(int64(size), resource.BinarySI)
}
