package gpu

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Policy says whether a replica must run on a GPU. The zero value is Required.
type Policy string

// The policies, which are spelt as in a configuration.
const (
	Required Policy = "required"
	Optional Policy = "optional"
	None     Policy = "none"
)

// Select are the devices that a replica gets; none means that it runs on the CPU. names are indexes, UUIDs or beginnings
// of UUIDs; without any it is all that can be used. Its error is an *Error.
func Select(policy Policy, names []string, d Driver) ([]Device, error) {
	if policy == None {
		return nil, nil // the driver is not even opened: that can take seconds on a node without persistence mode
	}
	optional := policy == Optional
	all, err := d.GPUs()
	switch {
	case err != nil && optional:
		return nil, nil
	case err != nil:
		return nil, driverError(err, OtherPolicies)
	case len(all) == 0 && optional:
		return nil, nil
	case len(all) == 0:
		return nil, &Error{Err: noDevice(), Advice: seeDevices + ", or " + OtherPolicies}
	}
	if len(names) > 0 {
		return named(names, all, optional)
	}
	return usable(all, optional)
}

// usable are all whole GPUs that work. Only where there is none, it is the first partition alone: CUDA gives a
// process one MIG partition, and no whole GPU beside it (MIG User Guide, "Device Enumeration").
func usable(all []Device, optional bool) ([]Device, error) {
	var whole, partitions []Device
	var problems []string
	for _, g := range all {
		switch {
		case g.Problem != "":
			problems = append(problems, fmt.Sprintf("GPU %s: %s", g.Label(), g.Problem))
		case g.partition():
			partitions = append(partitions, g)
		default:
			whole = append(whole, g)
		}
	}
	switch {
	case len(whole) > 0:
		return whole, nil
	case len(partitions) > 0:
		return partitions[:1], nil
	case optional:
		return nil, nil
	}
	return nil, &Error{
		Err:    fmt.Errorf("%w: %s", ErrNone, strings.Join(problems, "; ")),
		Advice: "repair it, or " + OtherPolicies,
	}
}

// named are the devices that the configuration names, in its order. What is ambiguous or contradicts itself is an
// error under every policy: it is wrong wherever it runs.
func named(names []string, all []Device, optional bool) ([]Device, error) {
	var chosen []Device
	namedBy := map[string]string{}
	for _, name := range names {
		matches := match(name, all)
		if len(matches) > 1 {
			return nil, &Error{
				Device: name,
				Err:    fmt.Errorf("it names more than one: %s", labels(matches)),
				Advice: "write more of the UUID",
			}
		}
		if len(matches) == 0 || matches[0].Problem != "" {
			if optional {
				continue
			}
			if len(matches) == 0 {
				return nil, &Error{
					Device: name,
					Err:    errors.New("there is no such GPU"),
					Advice: "there are: " + labels(all),
				}
			}
			return nil, &Error{
				Device: name,
				Err:    errors.New(matches[0].Problem),
				Advice: `or name another under "devices", or ` + OtherPolicies,
			}
		}
		g := matches[0]
		if first, ok := namedBy[g.UUID]; ok {
			return nil, &Error{
				Device: name,
				Err:    fmt.Errorf("it is the same device as %q", first),
				Advice: `leave one of the two out of "devices"`,
			}
		}
		namedBy[g.UUID] = name
		chosen = append(chosen, g)
	}
	if len(chosen) > 1 {
		for _, g := range chosen {
			if g.partition() {
				return nil, &Error{
					Device: namedBy[g.UUID],
					Err:    errors.New("CUDA gives a process one MIG partition and nothing beside it"),
					Advice: `name this one alone under "devices", or leave it out`,
				}
			}
		}
	}
	return chosen, nil
}

// match finds what an index, a UUID or the beginning of one (as CUDA allows) names. An index names a whole GPU.
func match(name string, all []Device) []Device {
	index, err := strconv.Atoi(name)
	isIndex := err == nil
	isUUID := strings.HasPrefix(name, "GPU-") || strings.HasPrefix(name, "MIG-")
	var matches []Device
	for _, g := range all {
		if g.UUID == name && isUUID {
			return []Device{g}
		}
		if isIndex && g.Index == index && !g.partition() || isUUID && strings.HasPrefix(g.UUID, name) {
			matches = append(matches, g)
		}
	}
	return matches
}

func labels(gpus []Device) string {
	out := make([]string, len(gpus))
	for i, g := range gpus {
		out[i] = g.Label()
	}
	return strings.Join(out, ", ")
}
