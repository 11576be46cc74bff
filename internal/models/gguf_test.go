package models

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
)

// TestSplitModel has a model in three parts, of which the first holds no tensors.
func TestSplitModel(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	parts, err := ggufgen.WriteSplit(filepath.Join(dir, "chat"), ggufgen.Params{}, 3)
	if err != nil {
		t.Fatal(err)
	}
	if want := SplitNames(filepath.Join(dir, "chat-00001-of-00003.gguf")); !slices.Equal(parts, want) {
		t.Fatalf("parts %v, want %v", parts, want)
	}
	check := func(want string) {
		t.Helper()
		_, err := checkGGUF(parts[0])
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("error = %v, want %q", err, want)
		}
	}
	check("")
	if _, err := checkGGUF(parts[1]); err == nil || !strings.Contains(err.Error(), `is part 2 of a model in 3; name the first in "model.id"`) {
		t.Errorf("second part: %v", err)
	}
	alone := filepath.Join(dir, "alone.gguf")
	data, _ := os.ReadFile(parts[0])
	if err := os.WriteFile(alone, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := checkGGUF(alone); err == nil || !strings.Contains(err.Error(), "says that its model has 3 parts, but its name says 1") {
		t.Errorf("renamed: %v", err)
	}
	info, _ := os.Stat(parts[2])
	if err := os.Truncate(parts[2], info.Size()-1000); err != nil {
		t.Fatal(err)
	}
	check("truncated: its weights need")
	if err := os.Remove(parts[2]); err != nil {
		t.Fatal(err)
	}
	check(fmt.Sprintf("part 3 of 3 is missing: %q", parts[2]))
}

func TestCheckGGUF(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "chat.gguf")
	if err := ggufgen.WriteFile(path, ggufgen.Params{}); err != nil {
		t.Fatal(err)
	}
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		content []byte
		want    string
	}{
		"sound":        {sound, ""},
		"header alone": {[]byte(enginetest.GGUF), ""},
		"a web page":   {[]byte("<!DOCTYPE html>"), "it is a page of HTML"},
		"short header": {sound[:2000], "ends within its header"},
		"cut short":    {sound[:len(sound)/2], "truncated: its weights need"},
		"many tensors": {[]byte("GGUF\x03\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\x00" + strings.Repeat("\x00", 100)), "it says that it has 72057594037927935 tensors"},
		"new version":  {[]byte("GGUF\x09\x00\x00\x00" + strings.Repeat("\x00", 100)), ""}, // for the engine to judge
	} {
		file := filepath.Join(t.TempDir(), "m.gguf")
		if err := os.WriteFile(file, c.content, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := checkGGUF(file)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: error = %v, want %q", name, err, c.want)
		}
	}
}
