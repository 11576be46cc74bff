/* A stand-in for the driver's library: one GPU of 143771 MiB, of which the processes hold memory that have a file with a number
   of MiB and the time of their start, named by their id, in the folder HELD. Those that are dead hold none, nor do those that
   have their id now, as after a run in a PID namespace. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { unsigned long long total, free, used; } nvmlMemory_t;
typedef struct {
	char busIdLegacy[16];
	unsigned int domain, bus, device, pciDeviceId, pciSubSystemId;
	char busId[32];
} nvmlPciInfo_t;
typedef struct { unsigned int pid; unsigned long long usedGpuMemory; unsigned int gpuInstanceId, computeInstanceId; } nvmlProcessInfo_t;

/* since is field 22 of /proc/PID/stat, or 0. */
static unsigned long long since(const char *pid) {
	char path[4096], text[4096];
	unsigned long long start = 0;
	FILE *file;
	char *after;
	snprintf(path, sizeof path, "/proc/%s/stat", pid);
	if (!(file = fopen(path, "r"))) return 0;
	text[fread(text, 1, sizeof text - 1, file)] = 0;
	fclose(file);
	if (!(after = strrchr(text, ')')) ||
		sscanf(after, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &start) != 1) return 0;
	return start;
}

static unsigned int holders(nvmlProcessInfo_t *infos, unsigned int room) {
	char path[4096];
	unsigned int n = 0;
	struct dirent *entry;
	DIR *dir = opendir(HELD);
	if (!dir) return 0;
	while ((entry = readdir(dir))) {
		unsigned long long mib = 0, start = 0;
		FILE *file;
		if (entry->d_name[0] == '.') continue;
		snprintf(path, sizeof path, "/proc/%s/exe", entry->d_name);
		if (readlink(path, path, sizeof path) < 0) continue; /* gone, or a zombie */
		snprintf(path, sizeof path, HELD "/%s", entry->d_name);
		if (!(file = fopen(path, "r"))) continue;
		if (fscanf(file, "%llu %llu", &mib, &start) == 2 && start == since(entry->d_name) && n < room) {
			memset(&infos[n], 0, sizeof infos[n]);
			infos[n].pid = atoi(entry->d_name);
			infos[n++].usedGpuMemory = mib << 20;
		}
		fclose(file);
	}
	closedir(dir);
	return n;
}

static int text(const char *from, char *to, unsigned int length) {
	if (strlen(from) >= length) return 7;
	strcpy(to, from);
	return 0;
}

int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *version, unsigned int length) { return text("580.0 (fake)", version, length); }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int i, void **device) { *device = HELD; return i ? 2 : 0; }
int nvmlDeviceGetUUID(void *d, char *uuid, unsigned int length) { return text("GPU-8dd4c4a1-0000-4000-8000-000000000000", uuid, length); }
int nvmlDeviceGetName(void *d, char *name, unsigned int length) { return text("NVIDIA H200", name, length); }
int nvmlDeviceGetPciInfo_v3(void *d, nvmlPciInfo_t *pci) {
	memset(pci, 0, sizeof *pci);
	strcpy(pci->busId, "00000000:3B:00.0");
	return 0;
}
int nvmlDeviceGetMemoryInfo(void *d, nvmlMemory_t *m) {
	nvmlProcessInfo_t infos[64];
	unsigned int n = holders(infos, 64);
	m->total = 143771ull << 20;
	m->used = 0;
	while (n) m->used += infos[--n].usedGpuMemory;
	m->free = m->total - m->used;
	return 0;
}
int nvmlDeviceGetComputeMode(void *d, int *mode) { *mode = 0; return 0; }
int nvmlDeviceGetRetiredPagesPendingStatus(void *d, int *pending) { return 3; }
int nvmlDeviceGetRemappedRows(void *d, unsigned int *corr, unsigned int *unc, unsigned int *pending, unsigned int *failed) {
	*corr = *unc = *pending = *failed = 0;
	return 0;
}
int nvmlDeviceGetMigMode(void *d, unsigned int *current, unsigned int *pending) { *current = *pending = 0; return 0; }
int nvmlDeviceGetMaxMigDeviceCount(void *d, unsigned int *count) { *count = 7; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *d, unsigned int i, void **mig) { return 6; }
int nvmlDeviceGetComputeRunningProcesses_v3(void *d, unsigned int *count, nvmlProcessInfo_t *infos) {
	*count = holders(infos, *count);
	return 0;
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *d, unsigned int *count, nvmlProcessInfo_t *infos) { *count = 0; return 0; }
int nvmlDeviceGetMPSComputeRunningProcesses_v3(void *d, unsigned int *count, nvmlProcessInfo_t *infos) { *count = 0; return 0; }
