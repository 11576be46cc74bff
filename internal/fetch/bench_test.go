package fetch

import (
	"os"
	"testing"
)

// BenchmarkDownload brings 256 MB from a server of this process, checksum included.
func BenchmarkDownload(b *testing.B) {
	rig := newBench(b, 256<<20)
	rig.file.minRange = 0
	b.SetBytes(int64(len(rig.content)))
	for b.Loop() {
		if err := os.RemoveAll(rig.file.Path); err != nil {
			b.Fatal(err)
		}
		if err := Download(b.Context(), rig.file); err != nil {
			b.Fatal(err)
		}
	}
}
