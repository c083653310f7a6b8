package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
)

// A host on which the kernel watches nothing more is kept true all the same, and its
// configuration is read when it is another.
func TestAConfigurationThatCannotBeWatchedIsLookedAt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trued.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	synctest.Test(t, func(t *testing.T) {
		changed := make(chan struct{}, 1)
		hup := make(chan os.Signal)
		go notice(t.Context(), path, &fsnotify.Watcher{}, hup, changed)
		told := func(want bool, after string) {
			t.Helper()
			time.Sleep(2 * configLook)
			select {
			case <-changed:
				if !want {
					t.Errorf("after %s it is told of", after)
				}
			default:
				if want {
					t.Errorf("after %s nothing is told", after)
				}
			}
		}
		told(false, "nothing")
		write("other")
		told(true, "a change")
		told(false, "it was told")
		hup <- os.Interrupt
		told(true, "a signal")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		told(false, "it was removed")
		write("once more")
		told(true, "it is there again")
	})
}

// Where there is no directory, nobody can watch it; the daemon starts all the same.
func TestTheDaemonStartsWhereTheKernelWatchesNothing(t *testing.T) {
	changed, stop := watchConfig(t.Context(), filepath.Join(t.TempDir(), "none", "trued.yaml"), slog.New(slog.DiscardHandler))
	defer stop()
	select {
	case <-changed:
		t.Error("something has changed")
	default:
	}
}
