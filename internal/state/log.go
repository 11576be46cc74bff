package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

// OpenLog creates the log of launch n or, when the record was lost and n is taken, of the next free number. It is
// handed to the engine as it is: no pipe that could block or kill the engine, and it outlives the provisioner.
func (f Files) OpenLog(n int64) (*os.File, int64, error) {
	for ; ; n++ {
		file, err := os.OpenFile(f.Log(n), os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, n, fmt.Errorf("cannot create the log file: %w", err)
		}
		return file, n, nil
	}
}

// PruneLogs removes the oldest logs until keep are left. That of launch failed is kept before all but the newest.
func (f Files) PruneLogs(keep int, failed int64) error {
	numbers, err := f.LogNumbers()
	if err != nil {
		return err
	}
	excess := len(numbers) - keep
	for _, n := range numbers {
		if excess <= 0 {
			break
		}
		if n == failed && keep > 1 {
			continue
		}
		err = errors.Join(err, os.Remove(f.Log(n)))
		excess--
	}
	return err
}

// LogNumbers are the launches that have a log, the oldest first.
func (f Files) LogNumbers() ([]int64, error) {
	entries, err := os.ReadDir(f.Logs())
	if err != nil {
		return nil, err
	}
	var numbers []int64
	for _, entry := range entries {
		text, isLog := strings.CutSuffix(entry.Name(), ".log")
		if n, err := strconv.ParseInt(text, 10, 64); isLog && err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}
