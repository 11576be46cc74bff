//go:build (amd64 || arm64) && !static

package nvml

import (
	"bytes"
	"unsafe"

	"github.com/ebitengine/purego"
)

// Available tells whether this build can open the library.
const Available = true

// Open names the library to be opened by Init: "libnvidia-ml.so.1", which the loader searches for, or a path.
func Open(path string) Library { return &library{path: path} }

type library struct {
	path   string
	handle uintptr // while it is open
}

// call calls a function of the library by its name. An argument that is made of a pointer keeps what it points to where it is.
//
//go:uintptrescapes
func (l *library) call(name string, args ...uintptr) Return {
	symbol, err := purego.Dlsym(l.handle, name)
	if err != nil {
		return FunctionNotFound
	}
	result, _, _ := purego.SyscallN(symbol, args...)
	return Return(int32(result))
}

// Init opens the library and begins to use it.
func (l *library) Init() Return {
	handle, err := purego.Dlopen(l.path, purego.RTLD_LAZY|purego.RTLD_GLOBAL)
	if err != nil {
		return LibraryNotFound
	}
	l.handle = handle
	ret := l.call("nvmlInit_v2")
	if ret != Success {
		l.close()
	}
	return ret
}

// Shutdown ends the use and closes the library.
func (l *library) Shutdown() Return {
	defer l.close()
	return l.call("nvmlShutdown")
}

func (l *library) close() {
	_ = purego.Dlclose(l.handle)
	l.handle = 0
}

func (l *library) DriverVersion() (string, Return) {
	var text [80]byte
	ret := l.call("nvmlSystemGetDriverVersion", uintptr(unsafe.Pointer(&text)), uintptr(len(text)))
	return cString(text[:]), ret
}

func (l *library) DeviceCount() (int, Return) {
	var count uint32
	ret := l.call("nvmlDeviceGetCount_v2", uintptr(unsafe.Pointer(&count)))
	return int(count), ret
}

func (l *library) Device(index int) (Device, Return) {
	d := device{lib: l}
	ret := l.call("nvmlDeviceGetHandleByIndex_v2", uintptr(index), uintptr(unsafe.Pointer(&d.handle)))
	return d, ret
}

// device is an nvmlDevice_t.
type device struct {
	lib    *library
	handle uintptr
}

func (d device) UUID() (string, Return) {
	var text [96]byte // NVML_DEVICE_UUID_V2_BUFFER_SIZE
	ret := d.lib.call("nvmlDeviceGetUUID", d.handle, uintptr(unsafe.Pointer(&text)), uintptr(len(text)))
	return cString(text[:]), ret
}

func (d device) Name() (string, Return) {
	var text [96]byte // NVML_DEVICE_NAME_V2_BUFFER_SIZE
	ret := d.lib.call("nvmlDeviceGetName", d.handle, uintptr(unsafe.Pointer(&text)), uintptr(len(text)))
	return cString(text[:]), ret
}

func (d device) BusID() (string, Return) {
	var pci struct { // nvmlPciInfo_t
		legacy                             [16]byte
		domain, bus, device, id, subsystem uint32
		busID                              [32]byte
	}
	ret := d.lib.call("nvmlDeviceGetPciInfo_v3", d.handle, uintptr(unsafe.Pointer(&pci)))
	return cString(pci.busID[:]), ret
}

func (d device) Memory() (Memory, Return) {
	var memory Memory // nvmlMemory_t has the same layout
	ret := d.lib.call("nvmlDeviceGetMemoryInfo", d.handle, uintptr(unsafe.Pointer(&memory)))
	return memory, ret
}

func (d device) ComputeMode() (ComputeMode, Return) {
	var mode int32
	ret := d.lib.call("nvmlDeviceGetComputeMode", d.handle, uintptr(unsafe.Pointer(&mode)))
	return ComputeMode(mode), ret
}

func (d device) RemappedRows() (RemappedRows, Return) {
	var correctable, uncorrectable, pending, failed uint32
	ret := d.lib.call("nvmlDeviceGetRemappedRows", d.handle, uintptr(unsafe.Pointer(&correctable)),
		uintptr(unsafe.Pointer(&uncorrectable)), uintptr(unsafe.Pointer(&pending)), uintptr(unsafe.Pointer(&failed)))
	return RemappedRows{Uncorrectable: uncorrectable, Pending: pending != 0, Failed: failed != 0}, ret
}

func (d device) RetiredPagesPending() (bool, Return) {
	var pending uint32
	ret := d.lib.call("nvmlDeviceGetRetiredPagesPendingStatus", d.handle, uintptr(unsafe.Pointer(&pending)))
	return pending != 0, ret
}

func (d device) MIG() (on bool, ret Return) {
	var current, next uint32
	ret = d.lib.call("nvmlDeviceGetMigMode", d.handle, uintptr(unsafe.Pointer(&current)), uintptr(unsafe.Pointer(&next)))
	return current != 0, ret
}

func (d device) PartitionSlots() (int, Return) {
	var count uint32
	ret := d.lib.call("nvmlDeviceGetMaxMigDeviceCount", d.handle, uintptr(unsafe.Pointer(&count)))
	return int(count), ret
}

func (d device) Partition(slot int) (Device, Return) {
	mig := device{lib: d.lib}
	ret := d.lib.call("nvmlDeviceGetMigDeviceHandleByIndex", d.handle, uintptr(slot), uintptr(unsafe.Pointer(&mig.handle)))
	return mig, ret
}

func (d device) ComputeProcesses() ([]Process, Return) {
	return d.processes("nvmlDeviceGetComputeRunningProcesses")
}

func (d device) GraphicsProcesses() ([]Process, Return) {
	return d.processes("nvmlDeviceGetGraphicsRunningProcesses")
}

func (d device) MPSProcesses() ([]Process, Return) {
	return d.processes("nvmlDeviceGetMPSComputeRunningProcesses")
}

// processes asks by the newest version of a function that the library has. The second and third write the same entries
// (nvmlProcessInfo_v2_t), the first shorter ones. Drivers of 510 and newer have the third.
func (d device) processes(function string) ([]Process, Return) {
	for _, version := range []string{"_v3", "_v2"} {
		list, ret := listed(d, function+version, func(e struct {
			pid               uint32
			used              uint64
			instance, compute uint32
		},
		) Process {
			return Process{e.pid, e.used}
		})
		if ret != FunctionNotFound {
			return list, ret
		}
	}
	return listed(d, function, func(e struct {
		pid  uint32
		used uint64
	},
	) Process {
		return Process{e.pid, e.used}
	})
}

// listed calls a function that fills a list, with more room as long as it says that there is too little.
func listed[E any](d device, function string, process func(E) Process) ([]Process, Return) {
	for room := uint32(64); ; {
		entries, count := make([]E, room), room
		ret := d.lib.call(function, d.handle, uintptr(unsafe.Pointer(&count)), uintptr(unsafe.Pointer(&entries[0])))
		if ret == InsufficientSize && room < 1<<20 {
			room = max(count, room) * 2
			continue
		}
		if ret != Success {
			return nil, ret
		}
		list := make([]Process, 0, min(count, room))
		for _, e := range entries[:min(count, room)] {
			list = append(list, process(e))
		}
		return list, Success
	}
}

// cString is the text up to the first zero.
func cString(text []byte) string {
	before, _, _ := bytes.Cut(text, []byte{0})
	return string(before)
}
