package gpu

import (
	"errors"
	"testing"
	"testing/synctest"
)

// Memory of the last launch must be back before the next one, but what others have taken since never will be.
func TestAwaitMemory(t *testing.T) {
	t.Parallel()
	free := func(bytes uint64) []Device { g := gpu0; g.MemoryFree = bytes; return []Device{g} }
	before := Use{GPUs: free(30 << 30), Held: map[int]uint64{7: 9 << 30}}
	for _, tt := range []struct {
		name string
		free uint64
		held map[int]uint64
		want error
	}{
		{"all is back", 30 << 30, map[int]uint64{7: 9 << 30}, nil},
		{"all but little", 29 << 30, nil, nil},
		{"not yet", 10 << 30, map[int]uint64{7: 9 << 30}, ErrBusy},
		{"another replica has come", 10 << 30, map[int]uint64{7: 9 << 30, 8: 20 << 30}, nil},
		{"another has grown", 10 << 30, map[int]uint64{7: 29 << 30}, nil},
		{"another has come, and not all is back", 5 << 30, map[int]uint64{7: 9 << 30, 8: 20 << 30}, ErrBusy},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				err := AwaitMemory(t.Context(), &fakeGPUs{gpus: free(tt.free), memory: tt.held}, before)
				if !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
			})
		})
	}
}
