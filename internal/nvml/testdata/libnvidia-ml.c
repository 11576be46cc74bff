/* A stand-in for the driver's library with the interface of nvml.h: two GPUs, the second in MIG mode. With OLD it lacks what
   came after driver 470. */
#include <string.h>

typedef int nvmlReturn_t;
typedef struct dev *nvmlDevice_t;
typedef struct { unsigned long long total, free, used; } nvmlMemory_t;
typedef struct {
	char busIdLegacy[16];
	unsigned int domain, bus, device, pciDeviceId, pciSubSystemId;
	char busId[32];
} nvmlPciInfo_t;
typedef struct { unsigned int pid; unsigned long long usedGpuMemory; } nvmlProcessInfo_v1_t;
typedef struct { unsigned int pid; unsigned long long usedGpuMemory; unsigned int gpuInstanceId, computeInstanceId; } nvmlProcessInfo_t;

struct dev { const char *uuid, *name, *bus; int mig; };
static struct dev gpus[2] = {{"GPU-a", "NVIDIA H200", "00000000:3B:00.0", 0}, {"GPU-b", "NVIDIA H200", "00000000:5E:00.0", 1}};
static struct dev partition = {"MIG-c", "NVIDIA H200 MIG 1g.18gb", "", 0};
static int used;

static nvmlReturn_t text(const char *from, char *to, unsigned int length) {
	if (strlen(from) >= length) return 7;
	strcpy(to, from);
	return 0;
}

nvmlReturn_t nvmlInit_v2(void) { used++; return 0; }
nvmlReturn_t nvmlShutdown(void) { return used-- > 0 ? 0 : 1; }
nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length) { return text("580.95.05", version, length); }
nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count) { *count = 2; return used > 0 ? 0 : 1; }
nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int i, nvmlDevice_t *d) {
	if (i > 1) return 2;
	*d = &gpus[i];
	return 0;
}
nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t d, char *uuid, unsigned int length) { return text(d->uuid, uuid, length); }
nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t d, char *name, unsigned int length) { return text(d->name, name, length); }
nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t d, nvmlPciInfo_t *pci) {
	if (d == &partition) return 3;
	memset(pci, 0xff, sizeof *pci);
	strcpy(pci->busId, d->bus);
	return 0;
}
nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t d, nvmlMemory_t *m) {
	m->total = 151ull << 30;
	m->free = 150ull << 30;
	m->used = 1ull << 30;
	return 0;
}
nvmlReturn_t nvmlDeviceGetComputeMode(nvmlDevice_t d, int *mode) { *mode = d->mig ? 2 : 0; return 0; }
nvmlReturn_t nvmlDeviceGetRetiredPagesPendingStatus(nvmlDevice_t d, int *pending) { *pending = d->mig; return 0; }

#ifdef OLD
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses(nvmlDevice_t d, unsigned int *count, nvmlProcessInfo_v1_t *infos) {
	if (*count < 2) return 7;
	*count = 2;
	infos[0].pid = 10;
	infos[0].usedGpuMemory = 5ull << 30;
	infos[1].pid = 11;
	infos[1].usedGpuMemory = ~0ull;
	return 0;
}
#else
nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t d, unsigned int *corr, unsigned int *unc, unsigned int *pending, unsigned int *failed) {
	*corr = 1;
	*unc = 2;
	*pending = 1;
	*failed = 0;
	return 0;
}
nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t d, unsigned int *current, unsigned int *pending) {
	*current = d->mig;
	*pending = 1;
	return 0;
}
nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t d, unsigned int *count) { *count = 2; return 0; }
nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t d, unsigned int i, nvmlDevice_t *mig) {
	if (i != 1) return 6;
	*mig = &partition;
	return 0;
}
/* 100 processes, more than the caller has room for at first, as long as it has. */
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t d, unsigned int *count, nvmlProcessInfo_t *infos) {
	unsigned int room = *count, i;
	*count = 100;
	if (room < 100) return 7;
	for (i = 0; i < 100; i++) {
		infos[i].pid = 1000 + i;
		infos[i].usedGpuMemory = (unsigned long long)i << 32;
		infos[i].gpuInstanceId = infos[i].computeInstanceId = 0xFFFFFFFF;
	}
	return 0;
}
nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses_v2(nvmlDevice_t d, unsigned int *count, nvmlProcessInfo_t *infos) {
	*count = 0;
	return 0;
}
nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t d, unsigned int *count, nvmlProcessInfo_t *infos) { return 15; }
#endif
