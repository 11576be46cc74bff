package pylock

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestOfReport(t *testing.T) {
	t.Parallel()
	here := filepath.Join(t.TempDir(), "x.whl")
	if err := os.WriteFile(here, make([]byte, 123), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := strings.Repeat("ab", 32)
	got, err := OfReport([]byte(`{"version": "1", "install": [
		{"download_info": {"url": "https://files.example.com/vllm-0.32.0.whl", "archive_info": {"hash": "sha256=` + sum + `", "hashes": {"sha256": "` + sum + `"}}},
		 "is_direct": false, "metadata": {"name": "vllm", "version": "0.32.0"}},
		{"download_info": {"url": "file://` + here + `", "archive_info": {"hash": "sha256=` + sum + `"}}, "is_direct": true, "metadata": {"name": "X", "version": "1+cpu"}},
		{"download_info": {"url": "git+ssh://git@example.com/y", "vcs_info": {}}, "is_direct": true, "metadata": {"name": "y", "version": "2"}}
	]}`))
	want := Lock{
		Name: "requirements.txt", Packages: 3,
		Text:  "X @ file://" + here + " --hash=sha256:" + sum + "\nvllm==0.32.0 --hash=sha256:" + sum + "\ny @ git+ssh://git@example.com/y\n",
		Files: []File{{URL: "https://files.example.com/vllm-0.32.0.whl"}, {Size: 123}, {}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v\nwant %+v", got, err, want)
	}
	for _, bad := range []string{
		"", "{}", `{"install": [{"metadata": {"name": "-r /etc/x", "version": "1"}}]}`, `{"install": [{"metadata": {"name": "x", "version": "1\n-r y"}}]}`,
		`{"install": [{"metadata": {"name": "x", "version": "1"}, "download_info": {"url": "a\n-r b"}}]}`,
	} {
		if l, err := OfReport([]byte(bad)); err == nil {
			t.Errorf("%s gives %+v", bad, l)
		}
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	l := Read("lock.txt", "# c\nsix==1.16.0 \\\n    --hash=sha256:ab\nA[x]==1\nb @ file:///b.whl\n-c other\n")
	if l.Packages != 3 || len(l.Files) != 0 || l.Name != "lock.txt" {
		t.Errorf("%+v", l)
	}
	l = Read("pylock.toml", `lock-version = "1.0"

[[packages]]
name = "six"
sdist = { url = "https://e/six-1.tar.gz", upload-time = 2021-05-05T14:18:18Z, size = 34041, hashes = { sha256 = "1e" } }
wheels = [{ url = "https://e/six-1-py2.py3-none-any.whl", upload-time = 2021-05-05T14:18:17Z, size = 11053, hashes = { sha256 = "8a" } }]

[[packages]]
name = "torch"
wheels = [
    { url = "https://e/torch-2-cp312-cp312-win_amd64.whl", size = 999999999, hashes = { sha256 = "8a" } },
    { url = "https://e/torch-2-cp312-cp312-manylinux_2_28_x86_64.whl", size = 700, hashes = { sha256 = "8a" } },
    { url = "https://e/torch-2-cp312-cp312-manylinux_2_28_aarch64.whl", size = 600, hashes = { sha256 = "8a" } },
]

[[packages]]
name = "local"
archive = { path = "x.whl", hashes = { sha256 = "8a" } }
`)
	if l.Packages != 3 || len(l.Files) != 3 || l.Files[0].Size != 11053 || l.Files[1].Size > 700 || l.Files[2].Size != 0 {
		t.Errorf("%+v", l)
	}
	if n := l.Installed([]string{"Collecting a", "  Downloading", "Processing b", "Collecting c", "Collecting d"}); n != 3 {
		t.Errorf("%d are installed", n)
	}
}

// FuzzOfReport: whatever a report says, a lock holds one package a line and no arguments beside hashes.
func FuzzOfReport(f *testing.F) {
	f.Add([]byte(`{"install": [{"metadata": {"name": "x", "version": "1"}, "download_info": {"url": "https://e/x", "archive_info": {"hash": "sha256=00"}}}]}`))
	f.Add([]byte(`{"install": [{"is_direct": true, "metadata": {"name": "x", "version": "1"}, "download_info": {"url": "-r b"}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := OfReport(data)
		if err != nil {
			return
		}
		lines := strings.Split(strings.TrimSuffix(l.Text, "\n"), "\n")
		if len(lines) != l.Packages {
			t.Errorf("%d packages in %q", l.Packages, l.Text)
		}
		for _, line := range lines {
			if strings.HasPrefix(line, "-") {
				t.Errorf("an argument: %q", line)
			}
		}
	})
}
