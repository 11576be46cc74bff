// Takes as many MiB of the first GPU's memory as its argument says, prints a line, and keeps them until it is ended.
#include <cstdio>
#include <cstdlib>
#include <unistd.h>

int main(int argc, char **argv) {
	size_t bytes = size_t(argc > 1 ? atoll(argv[1]) : 0) << 20;
	void *memory = nullptr;
	cudaError_t err = cudaMalloc(&memory, bytes);
	if (err == cudaSuccess) err = cudaMemset(memory, 1, bytes);
	if (err == cudaSuccess) err = cudaDeviceSynchronize();
	if (err != cudaSuccess) {
		fprintf(stderr, "hold: %s\n", cudaGetErrorString(err));
		return 1;
	}
	printf("holding %zu MiB\n", bytes >> 20);
	fflush(stdout);
	pause();
}
