package llamacpp

import (
	"os"
	"strings"
	"testing"
)

func TestParseLlamaVersion(t *testing.T) {
	t.Parallel()
	recorded, err := os.ReadFile("testdata/version-b11669.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		output, version string
		build           int
	}{
		{string(recorded), "b11669-Debian", 11669},
		{"warning: no usable GPU found, --gpu-layers option will be ignored\n" + string(recorded), "b11669-Debian", 11669},
		{"version: 0.8.0-dev (build 11700, commit 0a1b2c3d4)\r\nbuilt with GNU\n", "b11700-0a1b2c3d4", 11700},
		{"version: 7951 (22cae8321)\nbuilt with cc (Debian) for x86_64-linux-gnu\n", "b7951-22cae8321", 7951},
		{"b10217-ddd4ec142\n", "b10217-ddd4ec142", 10217},
		{"version: 0 (unknown)\n", "b0-unknown", 0},
	} {
		version, build, err := parseVersion(tt.output)
		if version != tt.version || build != tt.build || err != nil {
			t.Errorf("%q: got %q, %d, %v; want %q, %d", tt.output, version, build, err, tt.version, tt.build)
		}
	}
	for _, output := range []string{"", "version: ", "version: abc (build x, commit y)", "version: 99999999999999999999 (a)"} {
		if version, build, err := parseVersion(output); err == nil || version != "" || build != 0 {
			t.Errorf("%q: got %q, %d, %v; want an error", output, version, build, err)
		}
	}
}

func TestParseBuildInfo(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]int{"b11669-Debian": 11669, "b4383-1a2b3c4": 4383, "11669": 0, "b-x": 0, "": 0} {
		build, ok := parseBuildInfo(s)
		if build != want || ok != (want > 0) {
			t.Errorf("%q: got %d, %v; want %d", s, build, ok, want)
		}
	}
}

func FuzzVersion(f *testing.F) {
	f.Add("version: 0.7.0 (build 11669, commit Debian)\nbuilt with GNU 16.2.0 for Linux x86_64\n")
	f.Add("version: 7951 (22cae8321)\n")
	f.Add("b10217-ddd4ec142")
	f.Fuzz(func(t *testing.T, output string) {
		version, build, err := parseVersion(output)
		if err != nil {
			return
		}
		if strings.ContainsAny(version, " \n\r\t") || build < 0 {
			t.Errorf("version %q, build %d", version, build)
		}
		if again, ok := parseBuildInfo(version); !ok || again != build {
			t.Errorf("%q reads as build %d, want %d", version, again, build)
		}
	})
}
