package modelfile

import (
	"slices"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	t.Parallel()
	got, err := Read("\uFEFF# comment\n\nfrom ./a b.gguf\r\nPARAMETER stop \"<|x|>\"\nParameter temperature 0.5\n" +
		"SYSTEM \"\"\"one\n# two \"quoted\"\n three\"\"\"\nMESSAGE user \"a\nb\"\nTEMPLATE \"\"\"\"\"\"\nLICENSE x \"y\" z")
	want := []Instruction{
		{3, "from", "./a b.gguf"},
		{4, "parameter", "stop <|x|>"},
		{5, "parameter", "temperature 0.5"},
		{6, "system", "one\n# two \"quoted\"\n three"},
		{9, "message", "user a\nb"},
		{11, "template", ""},
		{12, "license", `x "y" z`},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
	for text, want := range map[string]string{
		"FROM x\nNONSENSE y":      `line 2: "nonsense" is no instruction`,
		"SYSTEM \"open\nand open": "line 1: the quotes \" are not closed",
		"SYSTEM \"\"\"open\"\"":   "are not closed",
	} {
		if _, err := Read(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add("FROM x\nSYSTEM \"\"\"a\nb\"\"\"\n# c\nPARAMETER stop \"x\"\nMESSAGE user hi\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := Read(text)
		if err != nil {
			return
		}
		for _, i := range all {
			if !instructionNames[i.Name] || len(i.Value) > len(text)+1 || i.Line < 1 {
				t.Errorf("%+v", i)
			}
		}
	})
}
