package census

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/procfs"
)

const variable = "CENSUS_TEST_MARK"

// shell starts a shell with the mark; what it prints are its children that tell their pids.
func shell(t *testing.T, mark, script string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	cmd.Env = append(os.Environ(), variable+"="+mark)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd, bufio.NewScanner(out)
}

// pid reads the next pid, whose process is killed when the test ends.
func pid(t *testing.T, lines *bufio.Scanner) int {
	t.Helper()
	if !lines.Scan() {
		t.Fatalf("no pid is told (%v)", lines.Err())
	}
	n, err := strconv.Atoi(strings.TrimSpace(lines.Text()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(n, syscall.SIGKILL) })
	return n
}

func startOf(t *testing.T, pid int) uint64 {
	t.Helper()
	s, err := procfs.ReadStat(pid)
	if err != nil {
		t.Fatal(err)
	}
	return s.StartTicks
}

func members(t *testing.T, c *Census, f Family) []int {
	t.Helper()
	found, _, err := c.Members(f, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, s := range found {
		pids = append(pids, s.PID)
	}
	slices.Sort(pids)
	return pids
}

// What has left its parent and its session is found by its mark, and its children by it.
func TestFindsWhatEscapes(t *testing.T) {
	t.Parallel()
	mark := t.Name()
	// The outer setsid forks and ends, so that the inner shell is nobody's child; its own child has lost the mark.
	cmd, lines := shell(t, mark, `setsid -f sh -c 'echo $$; env -i sleep 600 & echo $!; wait'; exec sleep 600`)
	escaped, unmarked := pid(t, lines), pid(t, lines)
	want := []int{cmd.Process.Pid, escaped, unmarked}
	slices.Sort(want)
	c := New(variable)
	leader := Identity{cmd.Process.Pid, startOf(t, cmd.Process.Pid)}
	for _, f := range []Family{
		{Mark: mark},
		{Mark: mark, Since: leader.StartTicks},
		{Mark: mark, Since: leader.StartTicks, Leader: leader},
		{Known: []Identity{leader, {escaped, startOf(t, escaped)}}},
		{Listed: []int{leader.PID, escaped}},
	} {
		if got := members(t, c, f); !slices.Equal(got, want) {
			t.Errorf("%+v: %v, want %v", f, got, want)
		}
	}
	for _, f := range []Family{
		{},
		{Mark: mark + "0"},
		{Since: leader.StartTicks, Leader: Identity{leader.PID, leader.StartTicks + 1}},
		{Known: []Identity{{escaped, startOf(t, escaped) + 1}}},
		{Mark: mark, Since: leader.StartTicks + 1<<32},
	} {
		if got := members(t, c, f); len(got) > 0 {
			t.Errorf("%+v: %v", f, got)
		}
	}
	if got := members(t, c, Family{Leader: leader, Not: leader.PID}); len(got) > 0 {
		t.Errorf("the process that is never told of, or its children: %v", got)
	}
}

// A mark that comes with an exec is seen although the same process was read without it, and stays when a title overwrites it.
func TestMarkOfTheLastExec(t *testing.T) {
	t.Parallel()
	mark := t.Name()
	cmd := exec.Command("sh", "-c", "read go; exec env "+variable+"="+mark+" sleep 600")
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	c := New(variable)
	f := Family{Mark: mark, Since: startOf(t, cmd.Process.Pid)}
	if got := members(t, c, f); len(got) > 0 {
		t.Fatalf("without a mark: %v", got)
	}
	fmt.Fprintln(in, "go")
	for deadline := time.Now().Add(10 * time.Second); ; {
		got := members(t, c, f)
		if slices.Equal(got, []int{cmd.Process.Pid}) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("with a mark: %v", got)
		}
	}
}

// A later process of the same number is another, also where the first was too old to be read.
func TestNumberOfAnother(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can choose the number of a process")
	}
	c := New(variable)
	first, _ := shell(t, "first", "exec sleep 600")
	number := first.Process.Pid
	old := startOf(t, number)
	if got := members(t, c, Family{Mark: "first"}); !slices.Equal(got, []int{number}) {
		t.Fatalf("the first: %v", got)
	}
	c.mu.Lock()
	c.lows = [2]uint64{old + 1, old + 1} // as after a while in which nobody has asked for any as old
	c.mu.Unlock()
	if got := members(t, c, Family{Mark: "first", Since: old + 1}); len(got) > 0 || c.all[number].read == c.round {
		t.Fatalf("an old one is read: %v", got)
	}
	_ = first.Process.Kill()
	_ = first.Wait()
	var second *exec.Cmd
	for range 1000 { // others start processes, too
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(number-1)), 0); err != nil {
			t.Skipf("the number of a process cannot be chosen: %v", err)
		}
		second, _ = shell(t, "second", "exec sleep 600")
		if second.Process.Pid == number && startOf(t, number) > old {
			break
		}
		_ = second.Process.Kill() // another number; or the same, in the same hundredth of a second, in which it is the same process
		_ = second.Wait()
		second = nil
	}
	if second == nil {
		t.Skip("others are faster")
	}
	if got := members(t, c, Family{Mark: "second", Since: old + 1}); !slices.Contains(got, number) {
		t.Errorf("the second: %v, want %d", got, number)
	}
	if got := members(t, c, Family{Known: []Identity{{number, old}}}); len(got) > 0 {
		t.Errorf("the first is still there: %v", got)
	}
}

// Whoever asks afresh is told of what was there when it asked, and many who ask together share looks.
func TestFreshAndShared(t *testing.T) {
	t.Parallel()
	c := New(variable)
	since := startOf(t, os.Getpid())
	for range 20 {
		cmd, _ := shell(t, t.Name(), "exec sleep 600")
		if got := members(t, c, Family{Mark: t.Name(), Since: since}); !slices.Contains(got, cmd.Process.Pid) {
			t.Fatalf("%d is not told of: %v", cmd.Process.Pid, got)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if got := members(t, c, Family{Mark: t.Name(), Since: since}); len(got) > 0 {
			t.Fatalf("%v are told of, which are gone", got)
		}
	}
	before := c.round
	var all sync.WaitGroup
	asked := time.Now()
	for range 200 {
		all.Go(func() {
			if _, _, err := c.Members(Family{Since: since}, asked); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if looks := c.round - before; looks != 1 {
		t.Errorf("%d looks for 200 questions", looks)
	}
	if got := c.Recent(); time.Since(got) < goodFor {
		t.Errorf("good for %s", time.Since(got))
	}
	if _, _, err := c.Members(Family{Since: since}, c.began.Add(-time.Nanosecond)); err != nil || c.round != before+1 {
		t.Errorf("a look that is good is done again (%v)", err)
	}
}

// Older processes are read for whoever asks for them, for as long as somebody does.
func TestFloor(t *testing.T) {
	t.Parallel()
	c := New(variable)
	own := startOf(t, os.Getpid())
	_ = members(t, c, Family{Since: own})
	if c.floor != own {
		t.Errorf("floor %d, want %d", c.floor, own)
	}
	_ = members(t, c, Family{})
	_ = members(t, c, Family{Since: own})
	if c.floor != 0 {
		t.Errorf("floor %d although older ones were asked for", c.floor)
	}
	for range 2 {
		c.turned = time.Now().Add(-2 * lowsLast)
		_ = members(t, c, Family{Since: own})
	}
	if c.floor != own {
		t.Errorf("floor %d although nobody asks for older ones, want %d", c.floor, own)
	}
}

// BenchmarkLook is one look beside other processes: those that are younger than the launches, and those that are older.
func BenchmarkLook(b *testing.B) {
	for _, n := range []int{0, 500, 1500} {
		for _, younger := range []bool{false, true} {
			b.Run(fmt.Sprintf("foreign=%d/younger=%v", n, younger), func(b *testing.B) {
				for range n {
					cmd := exec.Command("sleep", "600")
					if err := cmd.Start(); err != nil {
						b.Fatal(err)
					}
					b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
				}
				own, _ := procfs.ReadStat(os.Getpid())
				f := Family{Since: own.StartTicks, Mark: "nobody's"}
				if !younger {
					cmd := exec.Command("sleep", "600")
					if err := cmd.Start(); err != nil {
						b.Fatal(err)
					}
					b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
					s, _ := procfs.ReadStat(cmd.Process.Pid)
					f.Since = s.StartTicks + 1
				}
				c := New(variable)
				for range 2 {
					if _, _, err := c.Members(f, time.Now()); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportAllocs()
				for b.Loop() {
					_, _, _ = c.Members(f, time.Now())
				}
			})
		}
	}
}

// Who asks for older processes than the last look has read, and would be content with its age, is answered by another look.
func TestRecentAndOlder(t *testing.T) {
	t.Parallel()
	c := New(variable)
	asked := time.Now()
	own := os.Getpid()
	if _, err := c.Led(own, startOf(t, own)+1<<40, time.Now()); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := c.Led(own, startOf(t, own), asked)
		answered <- err
	}()
	select {
	case err := <-answered:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it looks for ever")
	}
}
