package procfs

import (
	"net/netip"
	"slices"
	"testing"
)

func TestParseConnections(t *testing.T) {
	t.Parallel()
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0
   1: 0100007F:1F90 0200007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0 100 0 0 10 0
   2: 0100007F:1F91 0200007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 333 1 0 100 0 0 10 0
   3: 0100007F:1F90 0200007F:9C41 06 00000000:00000000 00:00000000 00000000     0        0 0 1 0 100 0 0 10 0
   4: broken
`
	want := []Connection{
		{netip.MustParseAddrPort("127.0.0.1:8080"), netip.MustParseAddrPort("127.0.0.2:40000"), 222},
		{netip.MustParseAddrPort("127.0.0.1:8080"), netip.MustParseAddrPort("127.0.0.2:40001"), 0},
	}
	if got := ParseConnections([]byte(table), 8080); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	if got := ParseListening([]byte(table), 8080); !slices.Equal(got, []uint64{111}) {
		t.Errorf("%v", got)
	}
	if got := ParseListening([]byte(table), 8081); got != nil {
		t.Errorf("%v", got)
	}
}
