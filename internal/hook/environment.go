package hook

import (
	"encoding/json"
	"strconv"
)

// About is which engine a command is started for.
type About struct {
	Pool, Replica, URL string
	PID                int
	Handoff            any
}

// Environment is what a command is started with: env, and what it is about.
func (a About) Environment(env map[string]string) ([]string, error) {
	handoff, err := json.Marshal(a.Handoff)
	if err != nil {
		return nil, err
	}
	list := []string{
		"ENGINE_PROVISIONER_POOL=" + a.Pool, "ENGINE_PROVISIONER_REPLICA=" + a.Replica, "ENGINE_PROVISIONER_URL=" + a.URL,
		"ENGINE_PROVISIONER_PID=" + strconv.Itoa(a.PID), "ENGINE_PROVISIONER_HANDOFF=" + string(handoff),
	}
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	return list, nil
}
