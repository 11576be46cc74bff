package metrics

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// The dashboard and the alerts use series that there are, by their names and labels, and the dashboard shows all of them.
func TestContribNamesWhatThereIs(t *testing.T) {
	t.Parallel()
	described := make(chan *prometheus.Desc, 100)
	New().Describe(described)
	close(described)
	labels := map[string][]string{}
	for d := range described {
		found := regexp.MustCompile(`fqName: "(\w+)".*variableLabels: \{([\w,]*)\}`).FindStringSubmatch(d.String())
		if found == nil {
			t.Fatalf("not understood: %s", d)
		}
		labels[found[1]] = append(strings.Split(found[2], ","), "job", "instance", "le")
	}
	if len(labels) != 11 {
		t.Fatalf("%d series: %v", len(labels), labels)
	}
	series := regexp.MustCompile(`engine_provisioner_\w+`)
	base := regexp.MustCompile(`_(bucket|count|sum)$`)
	read := func(path string) string {
		text, err := os.ReadFile("../../contrib/" + path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	dashboard, alerts := read("grafana/engine-provisioner.json"), read("prometheus/alerts.yml")
	for where, text := range map[string]string{"the dashboard": strings.ReplaceAll(dashboard, `\"`, `"`), "the alerts": alerts} {
		names := series.FindAllString(text, -1)
		for _, name := range names {
			if labels[base.ReplaceAllString(name, "")] == nil {
				t.Errorf("%s: there is no %s", where, name)
			}
		}
		for _, selector := range regexp.MustCompile(`(engine_provisioner_\w+)\{([^}]*)\}`).FindAllStringSubmatch(text, -1) {
			for _, label := range regexp.MustCompile(`(\w+)\s*[=!]~?`).FindAllStringSubmatch(selector[2], -1) {
				if !slices.Contains(labels[base.ReplaceAllString(selector[1], "")], label[1]) {
					t.Errorf("%s: %s has no label %s", where, selector[1], label[1])
				}
			}
		}
		if len(names) < 6 {
			t.Errorf("%s has %d series", where, len(names))
		}
	}
	for name := range labels {
		if !strings.Contains(dashboard, name) {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
	for _, state := range states {
		if !strings.Contains(dashboard, `state=\"`+string(state)+`\"`) {
			t.Errorf("the dashboard does not know the state %s", state)
		}
	}
	if !json.Valid([]byte(dashboard)) {
		t.Error("the dashboard is no JSON")
	}
}
