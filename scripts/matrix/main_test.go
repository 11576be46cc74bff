package main

import (
	"strings"
	"testing"
)

// What has passed and says so is in the table; what has failed, or is not known, is not.
func TestTable(t *testing.T) {
	t.Parallel()
	events := `# some package
{"Action":"attr","Test":"TestSuite/llamacpp,_real/life","Key":"engine","Value":"llamacpp"}
{"Action":"attr","Test":"TestSuite/llamacpp,_real/life","Key":"version","Value":"build 1"}
{"Action":"attr","Test":"TestSuite/llamacpp,_real/life","Key":"proves","Value":"start,ready"}
{"Time":"2026-12-01T10:00:00Z","Action":"pass","Test":"TestSuite/llamacpp,_real/life"}
{"Action":"attr","Test":"TestSuite/llamacpp,_real/crash","Key":"engine","Value":"llamacpp"}
{"Action":"attr","Test":"TestSuite/llamacpp,_real/crash","Key":"proves","Value":"crash"}
{"Action":"fail","Test":"TestSuite/llamacpp,_real/crash"}
{"Action":"attr","Test":"TestSuite/vllm/drain","Key":"engine","Value":"vllm"}
{"Action":"attr","Test":"TestSuite/vllm/drain","Key":"version","Value":"0.32.0"}
{"Action":"attr","Test":"TestSuite/vllm/drain","Key":"proves","Value":"drain"}
{"Time":"2026-12-01T10:00:01Z","Action":"pass","Test":"TestSuite/vllm/drain"}
`
	rows := map[string]*row{}
	if err := read(strings.NewReader(events), "b10068", rows); err != nil {
		t.Fatal(err)
	}
	got := table(rows)
	for _, want := range []string{
		"| llamacpp | b10068 | run for real | yes | yes | – | – | – | – | – | – | 2026-12-01 |\n",
		"| vllm | 0.32.0 | modelled | – | – | – | – | yes | – | – | – | 2026-12-01 |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is missing in\n%s", want, got)
		}
	}
	if text, err := replace("a\n"+begin+"old"+end+"\nb", got); err != nil || text != "a\n"+begin+got+end+"\nb" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := replace("a", got); err == nil {
		t.Error("a file without marks is taken")
	}
	if err := read(strings.NewReader(strings.ReplaceAll(events, "start,ready", "sing")), "", rows); err == nil {
		t.Error("an unknown column is taken")
	}
}
