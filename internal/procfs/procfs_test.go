package procfs

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

const statTail = " S 1 4242 4242 0 -1 4194560 1000 0 3 0 150 25 0 0 20 0 9 0 987654 1073741824 51200 18446744073709551615 1 1 0 0 0 0 0 4096 0"

func TestParseStat(t *testing.T) {
	t.Parallel()
	for _, comm := range []string{"llama-server", "a b", "a) S 1 (b", ")", "(", "", "a\nb", "x) Z 1 1 1", "\xff\x01"} {
		got, err := ParseStat([]byte("4242 (" + comm + ")" + statTail + "\n"))
		want := Stat{
			PID: 4242, Comm: comm, State: 'S', PPID: 1, PGID: 4242, SID: 4242, CPUTicks: 175, StartTicks: 987654,
			VirtBytes: 1 << 30, RSSPages: 51200,
		}
		if err != nil || got != want {
			t.Errorf("%q:\ngot  %+v (%v)\nwant %+v", comm, got, err, want)
		}
	}
	for _, garbage := range []string{
		"", "4242", "()", "4242 (x", "4242 )x(" + statTail, "(x)" + statTail, "x (x)" + statTail, "4242 (x) S 1 2 3",
		"4242 (x) SS" + statTail[2:], "4242 (x)" + strings.Replace(statTail, "987654", "-", 1),
		"4242 (x)" + strings.Replace(statTail, "51200", "99999999999999999999", 1),
		"4242 (x)" + strings.Replace(statTail, "987654", "-7", 1),
	} {
		if s, err := ParseStat([]byte(garbage)); err == nil {
			t.Errorf("%q: %+v", garbage, s)
		}
	}
}

func TestDead(t *testing.T) {
	t.Parallel()
	for state, want := range map[byte]bool{'R': false, 'S': false, 'D': false, 'T': false, 'Z': true, 'X': true} {
		if (Stat{State: state}).Dead() != want {
			t.Errorf("%c: %v", state, !want)
		}
	}
}

// Real tables, of a Linux 6.1: a server at 127.0.0.1:8081, one at any address of IPv4, and connections on the same ports.
const tcp = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1001 1 0000000000000000 100 0 0 10 0
   1: 00000000:1F92 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1002 1 0000000000000000 100 0 0 10 0
   2: 0100007F:1F91 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 1003 1 0000000000000000 20 4 30 10 -1
   3: 0100007F:1F93 0100007F:C351 06 00000000:00000000 03:00000A10 00000000     0        0 0 3 0000000000000000
`

const tcp6 = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000001000000:1F91 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2001 1 0000000000000000 100 0 0 10 0
   1: 00000000000000000000000000000000:1F94 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2002 1 0000000000000000 100 0 0 10 0
   2: 0000000000000000FFFF00000100007F:1F95 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2003 1 0000000000000000 100 0 0 10 0
   3: B80D0120000000000000000034120000:1F96 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2004 1 0000000000000000 100 0 0 10 0
`

func TestParseListeners(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		table, addr string
		port        uint16
		want        []uint64
	}{
		{tcp, "127.0.0.1", 8081, []uint64{1001}},
		{tcp, "::ffff:127.0.0.1", 8081, []uint64{1001}},
		{tcp, "127.0.0.2", 8081, nil},
		{tcp, "127.0.0.1", 8082, []uint64{1002}},
		{tcp, "::1", 8082, nil}, // 0.0.0.0 does not serve IPv6
		{tcp, "127.0.0.1", 8083, nil},
		{tcp6, "::1", 8081, []uint64{2001}},
		{tcp6, "::1%lo", 8081, []uint64{2001}},
		{tcp6, "127.0.0.1", 8081, nil},
		{tcp6, "127.0.0.1", 8084, []uint64{2002}}, // :: serves both
		{tcp6, "::1", 8084, []uint64{2002}},
		{tcp6, "127.0.0.1", 8085, []uint64{2003}},
		{tcp6, "2001:db8::1234", 8086, []uint64{2004}},
		{tcp + tcp6, "::1", 8081, []uint64{2001}},
		{strings.ReplaceAll(tcp, " 1001 ", " 0 "), "127.0.0.1", 8081, nil},
		{strings.ReplaceAll(tcp, " 1001 ", " -5 "), "127.0.0.1", 8081, nil},
		{strings.ReplaceAll(tcp, "0100007F:1F91", "0100007F"), "127.0.0.1", 8081, nil},
		{strings.ReplaceAll(tcp, "0100007F:1F91", "0100007:1F91"), "127.0.0.1", 8081, nil},
		{strings.ReplaceAll(tcp, "0100007F:1F91", ":1F91"), "127.0.0.1", 8081, nil},
		{"\n\x00 0A 0A 0A\n" + strings.Repeat("x", 1<<20), "127.0.0.1", 8081, nil},
		{"", "127.0.0.1", 8081, nil},
	} {
		if got := ParseListeners(strings.NewReader(c.table), netip.MustParseAddr(c.addr), c.port); !slices.Equal(got, c.want) {
			t.Errorf("%s port %d: %v, want %v, in\n%.200s", c.addr, c.port, got, c.want, c.table)
		}
	}
}

// FuzzParseStat holds that whatever a process calls itself, the numbers after it are read, and no others.
func FuzzParseStat(f *testing.F) {
	for _, comm := range []string{"llama-server", "a b", "a) S 1 (b", "a\nb", ")", ""} {
		f.Add([]byte(comm))
	}
	f.Fuzz(func(t *testing.T, comm []byte) {
		_, _ = ParseStat(comm) // as a whole file: must not panic
		s, err := ParseStat([]byte("4242 (" + string(comm) + ")" + statTail))
		if err != nil || s.PID != 4242 || s.Comm != string(comm) || s.PPID != 1 || s.StartTicks != 987654 {
			t.Errorf("%q: %+v (%v)", comm, s, err)
		}
	})
}

// FuzzParseListeners holds that foreign lines neither panic nor hide the listener before them nor add one of inode 0.
func FuzzParseListeners(f *testing.F) {
	f.Add([]byte(tcp), uint16(8081))
	f.Add([]byte(tcp6), uint16(8084))
	f.Add([]byte("0: 0100007F: 0 0A 0 0 0 0 0 7"), uint16(0))
	f.Add([]byte("0: 0000007F:GGGG 0 0A 0 0 0 0 0 0\n"), uint16(0))
	f.Fuzz(func(t *testing.T, table []byte, port uint16) {
		got := ParseListeners(strings.NewReader(tcp+string(table)), netip.MustParseAddr("127.0.0.1"), port)
		if port == 8081 && (len(got) == 0 || got[0] != 1001) || slices.Contains(got, 0) {
			t.Errorf("%q: %v", table, got)
		}
	})
}

// A child that is just being started holds its parent's sockets, and can have the lower number.
func TestOwnerOfASocketIsItsOldestHolder(t *testing.T) {
	t.Parallel()
	holders := []Stat{{PID: 14575, Comm: "child", StartTicks: 900}, {PID: 31310, Comm: "server", StartTicks: 100}}
	if got := oldest(holders); got.PID != 31310 {
		t.Errorf("%+v", got)
	}
}
