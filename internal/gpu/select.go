package gpu

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
)

// Policy says whether a replica must run on a GPU. The zero value is Required.
type Policy string

// The policies, which are spelt as in a configuration.
const (
	Required  Policy = "required"
	Optional  Policy = "optional"
	None      Policy = "none"
	Unmanaged Policy = "unmanaged" // the user's matter: nothing is chosen, hidden or proven
)

// Inventory is what a driver said of the node's GPUs at one time.
type Inventory struct {
	Devices []Device
	Err     error
}

// Take asks the driver.
func Take(d Driver) Inventory {
	devices, err := d.GPUs()
	return Inventory{devices, err}
}

// String stands for the machine: another one has other GPUs.
func (i Inventory) String() string { return labels(i.Devices) }

// Choice is what a replica gets.
type Choice struct {
	GPUs []Device // none: the CPU
	Why  string   // why there is none under Optional; "" where none was to be had without a reason
}

// Select chooses the devices of a replica. names are indexes, UUIDs or beginnings of UUIDs, PCI addresses, or names by which
// the executable knows devices; without any it is all that can be used of one vendor. Its error is an *Error.
func Select(policy Policy, names []string, found Inventory, b Build) (Choice, error) {
	if policy == None || policy == Unmanaged {
		return Choice{}, nil
	}
	optional := policy == Optional
	all, err := found.Devices, found.Err
	listed := b.local()
	if err == nil && len(all) == 0 {
		err = noDevice()
	}
	if err != nil && b.Words != "" {
		err = said{err, b}
	}
	switch {
	case len(all) == 0 && len(listed) > 0: // the executable knows more than we do
		all = ofList(listed)
	case err != nil && optional:
		return Choice{Why: driverError(err, "").Err.Error()}, nil
	case errors.Is(err, ErrNone):
		return Choice{}, &Error{Err: err, Advice: seeDevices + ", or " + OtherPolicies}
	case err != nil:
		return Choice{}, driverError(err, OtherPolicies)
	case b.forNone() && optional:
		return Choice{Why: b.noBackend(vendor(all[0]))}, nil
	case b.forNone():
		return Choice{}, &Error{
			Err: errors.New(b.noBackend(vendor(all[0]))), Advice: "use an executable that was built for this GPU, or " + OtherPolicies,
		}
	}
	s := selection{all: all, listed: listed, build: b, optional: optional}
	chosen := Choice{}
	if len(names) > 0 {
		if chosen.GPUs, err = s.named(names); len(chosen.GPUs) == 0 {
			chosen.Why = "none of those under \"devices\" can be used"
		}
	} else {
		chosen, err = s.usable()
	}
	if err != nil {
		return Choice{}, err
	}
	chosen.GPUs, err = b.tie(chosen.GPUs, all)
	return chosen, err
}

// said adds to why a driver shows no device what the executable says of its own search.
type said struct {
	error
	build Build
}

func (e said) Error() string {
	return fmt.Sprintf("%v, and %s says %q", e.error, e.build.What, e.build.Words)
}

func (e said) Unwrap() error { return e.error }

// ofList are devices of which the executable alone tells, with its numbers.
func ofList(listed []Device) []Device {
	devices := slices.Clone(listed)
	for i := range devices {
		devices[i].Index, devices[i].MemoryFree = i, engine.UnknownBytes // which was of another moment
	}
	return devices
}

// selection is what a choice is made of.
type selection struct {
	all, listed []Device
	build       Build
	optional    bool
}

// candidates are the devices that an index counts among and that are taken where none is named: those of the vendors that
// the executable is for, without integrated ones where there are others.
func (s selection) candidates() []Device {
	some := slices.DeleteFunc(slices.Clone(s.all), func(d Device) bool { return d.Problem == "" && s.build.cannot(d) != "" && s.build.usesAny(s.all) })
	extra := func(d Device) bool { return d.Unified && vendor(d) != engine.VendorNVIDIA }
	if discrete := slices.DeleteFunc(slices.Clone(some), extra); len(discrete) > 0 {
		return discrete
	}
	return some
}

// usesAny reports whether the executable can use one of the devices.
func (b Build) usesAny(devices []Device) bool {
	return slices.ContainsFunc(devices, func(d Device) bool { return b.cannot(d) == "" })
}

// usable are all whole GPUs of one vendor that work, the first that the executable has the runtime of. Only where there is
// none, it is the first partition alone: CUDA gives a process one MIG partition, and no whole GPU beside it (MIG User Guide,
// "Device Enumeration").
func (s selection) usable() (Choice, error) {
	var whole, partitions []Device
	var problems []string
	for _, g := range s.candidates() {
		switch wrong := s.build.cannot(g); {
		case wrong != "":
			problems = append(problems, fmt.Sprintf("GPU %s: %s", Label(g), wrong))
		case partition(g):
			partitions = append(partitions, g)
		default:
			whole = append(whole, g)
		}
	}
	slices.SortStableFunc(whole, func(a, b Device) int { return cmp.Compare(rank(s.build, a), rank(s.build, b)) })
	switch {
	case len(whole) > 0:
		return Choice{GPUs: slices.DeleteFunc(whole, func(d Device) bool { return vendor(d) != vendor(whole[0]) })}, nil
	case len(partitions) > 0:
		return Choice{GPUs: partitions[:1]}, nil
	}
	err := fmt.Errorf("%w: %s", ErrNone, strings.Join(problems, "; "))
	if s.optional {
		return Choice{Why: err.Error()}, nil
	}
	return Choice{}, &Error{Err: err, Advice: "repair it, or " + OtherPolicies}
}

// rank puts devices of the executable's own runtime first.
func rank(b Build, d Device) int {
	if b.native(d) {
		return 0
	}
	return 1
}

// named are the devices that the configuration names, in its order. What is ambiguous or contradicts itself is an
// error under every policy: it is wrong wherever it runs.
func (s selection) named(names []string) ([]Device, error) {
	var chosen []Device
	namedBy := map[string]string{}
	for _, name := range names {
		matches := s.match(name)
		if len(matches) > 1 {
			return nil, &Error{
				Device: name,
				Err:    fmt.Errorf("it names more than one: %s", labels(matches)),
				Advice: "write more of the UUID",
			}
		}
		if len(matches) == 0 {
			if s.optional {
				continue
			}
			there := s.all
			if len(s.listed) > 0 {
				there = slices.Concat(there, slices.DeleteFunc(ofList(s.listed), func(d Device) bool { return vendor(s.all[0]) == "" }))
			}
			return nil, &Error{
				Device: name,
				Err:    errors.New("there is no such GPU"),
				Advice: "there are: " + labels(there),
			}
		}
		g := matches[0]
		if wrong := s.build.cannot(g); wrong != "" {
			if s.optional {
				continue
			}
			return nil, &Error{
				Device: name,
				Err:    errors.New(wrong),
				Advice: `or name another under "devices", or ` + OtherPolicies,
			}
		}
		if first, ok := namedBy[g.ID()]; ok {
			return nil, &Error{
				Device: name,
				Err:    fmt.Errorf("it is the same device as %q", first),
				Advice: `leave one of the two out of "devices"`,
			}
		}
		namedBy[g.ID()] = name
		chosen = append(chosen, g)
	}
	if len(chosen) > 1 {
		for _, g := range chosen {
			if partition(g) {
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

// match finds what an index, a PCI address, a UUID or the beginning of one (as CUDA allows), or a name of the executable's
// names. An index names a whole GPU.
func (s selection) match(name string) []Device {
	if i := slices.IndexFunc(s.listed, func(d Device) bool { return d.Backends[0] == name }); i >= 0 {
		return ofList(s.listed)[i : i+1]
	}
	address := PCIAddress(name)
	index, err := strconv.Atoi(name)
	isIndex := err == nil
	isUUID := strings.HasPrefix(name, "GPU-") || strings.HasPrefix(name, "MIG-")
	among := s.all
	if isIndex {
		among = s.candidates()
	}
	var matches []Device
	for _, g := range among {
		switch {
		case g.UUID == name && isUUID:
			return []Device{g}
		case isIndex && g.Index == index && !partition(g), address != "" && g.PCIBusID == address && !partition(g), isUUID && strings.HasPrefix(g.UUID, name):
			matches = append(matches, g)
		}
	}
	return matches
}
